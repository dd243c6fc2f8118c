//! `dbird doctor` for AWS: what the account has, as the provider finds it, and what dbird has to be allowed in it.

use std::path::Path;

use dbird_aws::{
    AwsProvider,
    doctor::{Check, Questions, Verdict},
    permissions::{self, Scope},
};
use dbird_core::Spec;

use super::{Found, ng, ok, skip, which};
use crate::{
    commands::{Context, Done},
    failure::{Failure, Result},
    output::{Event, events::CheckState},
    session::Session,
};

/// AWS's program that `dbird exec` needs.
const PLUGIN: &str = "session-manager-plugin";

/// Everything that an environment needs of its account.
pub(super) async fn checks(provider: &AwsProvider, session: &Session, say: &mut dyn FnMut(&str, Found)) {
    let spec = &session.spec;
    for check in provider.doctor(&questions(session)).await {
        say(check.name, found(check));
    }
    say("exec", plugin(spec));
}

fn questions(session: &Session) -> Questions {
    let spec = &session.spec;
    Questions {
        target: session.target.clone(),
        certificate: spec.aws.certificate.clone(),
        domain: spec.aws.domain.clone(),
        secrets: spec.secrets.values().map(|secret| secret.name.clone()).collect(),
        cpu_max: spec.service.cpu * f64::from(spec.scale.max.max(spec.scale.min)) * 2.0,
        role: spec.aws.execution_role.clone(),
    }
}

fn found(check: Check) -> Found {
    let Check { verdict, text, remedy, .. } = check;
    let state = match verdict {
        Verdict::Ok => CheckState::Ok,
        Verdict::Ng => CheckState::Ng,
        Verdict::Skip => CheckState::Skip,
    };
    Found { state, detail: text, remedy }
}

fn plugin(spec: &Spec) -> Found {
    if !spec.aws.exec {
        return skip("`dbird exec` is not switched on (`exec` in [cloud.aws])");
    }
    match which(Path::new("."), PLUGIN) {
        Some(found) => ok(format!("{PLUGIN} is {}", found.display())),
        None => ng(
            format!("{PLUGIN} is not on PATH, so `dbird exec` can't work here"),
            "install AWS's Session Manager plugin; `dbird run` needs nothing",
        ),
    }
}

/// Prints the policy, or writes it in parts.
pub(super) fn policy(folder: Option<&Path>, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.look(async |_| {
        let session = Session::open(cx, &spec, "doctor", None)?;
        let Some(provider) = session.cloud.aws() else {
            return Err(Failure::usage(format!("{} asks for no permissions", spec.cloud))
                .hint("name the cloud: `dbird doctor -c aws --print-policy`"));
        };
        let account = match &spec.aws.account {
            Some(account) => account.clone(),
            None => provider.account().await.map_err(|e| {
                let failure = Failure::from(e);
                let hint = "the policy names the account: set `account` in [cloud.aws], or have credentials";
                Failure { hint: Some(hint.to_owned()), ..failure }
            })?,
        };
        // As long as the state is somewhere else, `bootstrap` would make this bucket.
        let own = || format!("s3://{}-dbird-{account}", spec.service.name);
        let state = Some(spec.state_url.clone()).filter(|url| url.starts_with("s3://")).unwrap_or_else(own);
        let scope = Scope {
            target: session.target.clone(),
            region: spec.aws.region.clone(),
            network: Some(spec.aws.network.clone()).filter(|name| name != "own"),
            state: Some(state),
            account,
        };
        let parts = permissions::policies(&scope);
        let Some(folder) = folder else {
            if parts.len() > 1 {
                cx.out.note(format!("IAM takes this in {} parts; --out DIR writes them.", parts.len()));
            }
            let text = serde_json::to_string_pretty(&permissions::print_policy(&scope)).unwrap_or_default();
            cx.out.event(Event::Text { topic: "policy".to_owned(), text });
            return Ok(Done::success());
        };
        std::fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, &e))?;
        for part in parts {
            let path = folder.join(format!("{}.json", part.name));
            let text = serde_json::to_string_pretty(&part.document).unwrap_or_default();
            std::fs::write(&path, format!("{text}\n")).map_err(|e| Failure::io("write", &path, &e))?;
            cx.out.event(Event::Written { path: path.display().to_string() });
        }
        Ok(Done::success())
    })
}
