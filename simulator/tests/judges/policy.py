"""Judges the policy that dbird prints: a user of ministack's IAM who has exactly that may do what dbird does, and nothing more.

    python policy.py URL FOLDER RECORD

FOLDER holds the policy in the parts that `dbird doctor --print-policy --out` writes, RECORD what dbird asked of an account.
Each call of the record is made again, by that user. It may find nothing there; it must not be refused. The exit code is 1
if one was, or if something beyond was not.
"""

import collections
import json
import pathlib
import sys
import uuid

import boto3
import botocore.config
import botocore.exceptions

from models import NAMES, Judge, typed

URL, FOLDER, RECORD = sys.argv[1:4]
# Twelve digits as a key are an account's own, of whoever may do everything in it.
ACCOUNT = "123456789012"
# Whoever judges twice in one account judges two people.
USER = f"dbird-{uuid.uuid4().hex[:8]}"
REFUSED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}

# What AWS lets nobody be refused.
ANYBODY = {"sts:GetCallerIdentity"}

# On what AWS asks for a permission, by its service authorization reference, where ministack names something else (a list of
# names, the cluster of a service) or does not know the call: there its IAM is asked what it would say. BASE stands for the
# environment, and another one's must be refused.
GROUP = "codedeploy:us-east-1:ACCOUNT:deploymentgroup:BASE/BASE"
# The policy tells no environment's load balancer from another's: CloudFormation names them, and shortens the stack's name.
RULE = "elasticloadbalancing:us-east-1:ACCOUNT:listener-rule/app/judged/0123456789abcdef/0123456789abcdef/0123456789abcdef"
SCALING = "application-autoscaling:us-east-1:ACCOUNT:scalable-target/1"
ON = {
    "application-autoscaling:PutScalingPolicy": SCALING,
    "application-autoscaling:RegisterScalableTarget": SCALING,
    "application-autoscaling:DeregisterScalableTarget": SCALING,
    "application-autoscaling:DescribeScalableTargets": "*",
    "application-autoscaling:DescribeScalingPolicies": "*",
    "codedeploy:BatchGetDeploymentTargets": GROUP,
    "codedeploy:BatchGetDeployments": GROUP,
    "codedeploy:ContinueDeployment": GROUP,
    "codedeploy:CreateDeployment": GROUP,
    "codedeploy:CreateDeploymentGroup": GROUP,
    "codedeploy:DeleteDeploymentGroup": GROUP,
    "codedeploy:GetDeployment": GROUP,
    "codedeploy:GetDeploymentGroup": GROUP,
    "codedeploy:ListDeployments": GROUP,
    "codedeploy:ListDeploymentTargets": GROUP,
    "ecr:DescribeRepositories": "ecr:us-east-1:ACCOUNT:repository/BASE",
    "ecs:CreateService": "ecs:us-east-1:ACCOUNT:service/BASE/tiny",
    "ecs:DeleteService": "ecs:us-east-1:ACCOUNT:service/BASE/tiny",
    "ecs:DescribeServices": "ecs:us-east-1:ACCOUNT:service/BASE/tiny",
    "ecs:UpdateService": "ecs:us-east-1:ACCOUNT:service/BASE/tiny",
    "ecs:DescribeTasks": "ecs:us-east-1:ACCOUNT:task/BASE/0123456789abcdef",
    "ecs:RegisterTaskDefinition": "ecs:us-east-1:ACCOUNT:task-definition/BASE:1",
    "ecs:RunTask": "ecs:us-east-1:ACCOUNT:task-definition/BASE-run:1",
    "elasticloadbalancing:DeleteRule": RULE,
    "elasticloadbalancing:ModifyRule": RULE,
    "elasticfilesystem:DescribeFileSystems": "elasticfilesystem:us-east-1:ACCOUNT:file-system/fs-1",
}

# What dbird never needs; one for each service that it uses at all, and some that it would be bad to have.
BEYOND = [
    ("iam", "create_user", {"UserName": "other"}),
    ("iam", "attach_user_policy", {"UserName": USER, "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
    ("s3", "list_buckets", {}),
    ("ec2", "run_instances", {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}),
    ("secretsmanager", "get_secret_value", {"SecretId": "tiny-dev/secret"}),
    ("ssm", "get_parameter", {"Name": "/tiny/dev/secret", "WithDecryption": True}),
    ("cloudformation", "delete_stack", {"StackName": "other-prod"}),
    ("cloudformation", "describe_stacks", {"StackName": "other-prod"}),
    ("ecs", "delete_cluster", {"cluster": "other-prod"}),
    ("ecs", "update_service", {"cluster": "other-prod", "service": "other"}),
    ("ecr", "delete_repository", {"repositoryName": "other-prod"}),
    ("logs", "delete_log_group", {"logGroupName": "/dbird/other-prod"}),
    ("cloudwatch", "delete_alarms", {"AlarmNames": ["other-prod-blue-errors"]}),
    ("sts", "assume_role", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/other", "RoleSessionName": "other"}),
]


def client(name, key, secret):
    config = botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    return boto3.client(
        name,
        endpoint_url=URL,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=config,
    )


def user():
    """Somebody with exactly the policy."""
    iam = client("iam", ACCOUNT, "root")
    iam.create_user(UserName=USER)
    parts = sorted(pathlib.Path(FOLDER).rglob("*.json"))
    for part in parts:
        made = iam.create_policy(PolicyName=f"{USER}-{part.stem}", PolicyDocument=part.read_text())
        iam.attach_user_policy(UserName=USER, PolicyArn=made["Policy"]["Arn"])
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"], parts


def verdict(call):
    """`refused`, `lacking` where ministack does not know the call, or `allowed`."""
    try:
        call()
    except botocore.exceptions.ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in REFUSED:
            return "refused", error.response["Error"]["Message"]
        lacking = status >= 500 or code in ("InvalidAction", "UnknownOperationException", "404", "400")
        return ("lacking" if lacking else "allowed"), code
    except botocore.exceptions.BotoCoreError as error:
        return "lacking", repr(error)
    return "allowed", ""


def would(action, resource):
    """Whether ministack's IAM would allow it."""
    said = client("iam", ACCOUNT, "root").simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:user/{USER}", ActionNames=[action], ResourceArns=[resource]
    )
    return said["EvaluationResults"][0]["EvalDecision"] == "allowed"


def simulated(action, wrong):
    """Judges an action on what AWS asks for it, and on what belongs to somebody else."""
    if ON[action] == "*":
        if not would(action, "*"):
            wrong.append(f"{action} would be refused")
        return
    own = "arn:aws:" + ON[action].replace("ACCOUNT", ACCOUNT)
    if not would(action, own.replace("BASE", "tiny-dev")):
        wrong.append(f"{action} would be refused on {own}")
    if "BASE" in own and would(action, own.replace("BASE", "other-prod")):
        wrong.append(f"{action} would be allowed on {own} of another environment")


def main():
    key, secret, parts = user()
    judge, wrong = Judge(), []
    actions = {a for part in parts for s in json.loads(part.read_text())["Statement"] for a in s["Action"]}
    results = collections.defaultdict(collections.Counter)
    for line in open(RECORD):
        call = json.loads(line)
        # What lies behind s3 here is the state's store, which has a policy only where it is in S3.
        if call["service"] == "s3" or call["service"] not in NAMES:
            continue
        name, operation = NAMES[call["service"]], call["operation"]
        prefix = "cloudwatch" if call["service"] == "monitoring" else call["service"]
        action = f"{prefix}:{operation}"
        if action in ANYBODY:
            continue
        if action not in actions:
            wrong.append(f"{action} is called, and the policy does not have it")
            continue
        service = client(name, key, secret)
        method = next(m for m, o in service.meta.method_to_api_mapping.items() if o == operation)
        shape = judge.model(call["service"]).operation_model(operation).input_shape
        given = typed(shape, call["input"]) if shape else {}
        found, why = verdict(lambda: getattr(service, method)(**given))
        if ON.get(action) and found != "allowed":
            if action not in results["simulated"]:
                simulated(action, wrong)
            found = "simulated"
        results[found][action] += 1
        if found == "refused":
            wrong.append(f"{action} is refused: {why}")
    for found in ("allowed", "simulated", "lacking"):
        print(f"{found}: {', '.join(sorted(results[found]))}")
    if len(results["allowed"]) < 12 or len(results["simulated"]) < 12:
        wrong.append("too few operations could be tried for this to prove anything")
    for name, method, given in BEYOND:
        found, why = verdict(lambda: getattr(client(name, key, secret), method)(**given))
        if found != "refused":
            wrong.append(f"beyond what dbird needs, {name} {method} {given} is {found} {why}")
    for line in sorted(set(wrong)):
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
