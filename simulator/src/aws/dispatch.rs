//! Which service answers what.

use std::sync::Arc;

use super::{
    Answer, Call, Fault, World, acm, cloudformation, cloudformation::kinds::Kind, cloudwatch, codedeploy, ecr, ecs,
    efs, elb, iam, kms, logs, network, quotas, s3, scaling, secrets, sns, ssm, sts,
};

/// Answers a call. `UnknownOperationException` where nothing here does.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    match call.service.as_str() {
        "acm" => acm::call(world, call).await,
        "application-autoscaling" => scaling::call(world, call).await,
        "cloudformation" => cloudformation::call(world, call).await,
        "codedeploy" => codedeploy::call(world, call).await,
        "ec2" => network::call(world, call).await,
        "ecr" => ecr::call(world, call).await,
        "ecs" => ecs::call(world, call).await,
        "elasticfilesystem" => efs::call(world, call).await,
        "elasticloadbalancing" => elb::call(world, call).await,
        "iam" => iam::call(world, call).await,
        "logs" => logs::call(world, call).await,
        "monitoring" => cloudwatch::call(world, call).await,
        "secretsmanager" => secrets::call(world, call).await,
        "servicequotas" => quotas::call(world, call).await,
        "ssm" => ssm::call(world, call).await,
        "sts" => sts::call(world, call).await,
        _ => Err(Fault::unknown(&call.service, &call.operation)),
    }
}

/// Every kind of resource that a stack can hold.
pub(crate) fn kinds() -> impl Iterator<Item = &'static dyn Kind> {
    let all = [
        acm::KINDS,
        cloudformation::KINDS,
        cloudwatch::KINDS,
        codedeploy::KINDS,
        ecr::KINDS,
        ecs::KINDS,
        efs::KINDS,
        elb::KINDS,
        iam::KINDS,
        kms::KINDS,
        logs::KINDS,
        network::KINDS,
        quotas::KINDS,
        s3::KINDS,
        scaling::KINDS,
        secrets::KINDS,
        sns::KINDS,
        ssm::KINDS,
    ];
    all.into_iter().flatten().copied()
}
