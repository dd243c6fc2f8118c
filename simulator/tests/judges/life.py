"""Leads every template through the whole life of a stack on ministack, which has CloudFormation's semantics: planned and made,
the same again, changed, drifted, failed, undone, protected, and deleted with its data kept.

    python life.py URL TEMPLATE...

What ministack lacks is left out, with all that refers to it, and printed. The exit code is 1 if something was not as it
should be.
"""

import copy
import itertools
import json
import sys
import time

import boto3
import botocore.exceptions

URL, FILES = sys.argv[1], sys.argv[2:]
END_S = 60

# Types of resources that ministack 1.5.33 refuses.
LACKING = {
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentConfig",
    "AWS::EC2::EIP",
    "AWS::EC2::FlowLog",
    "AWS::EC2::NatGateway",
    "AWS::EC2::SecurityGroupIngress",
}

# Properties that it refuses: here alarms over an expression.
LACKING_PROPERTIES = {("AWS::CloudWatch::Alarm", "Metrics")}

# What stands for a reference to one of these, so that what refers to it can be judged all the same.
STAND_IN = {
    "AWS::CodeDeploy::Application": "judged",
    "AWS::CodeDeploy::DeploymentConfig": "judged",
    "AWS::EC2::EIP": "198.51.100.7",
}

wrong = []


def client(name):
    return boto3.client(name, endpoint_url=URL, region_name="us-east-1")


cloudformation = client("cloudformation")


def holds(name, what, truth, found=""):
    if not truth:
        wrong.append(f"{name}: {what}: {found}")


def names(value):
    """The logical names that something refers to."""
    if isinstance(value, list):
        return set().union(*map(names, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = set().union(*(names(inner) for inner in value.values())) if value else set()
    if set(value) == {"Ref"}:
        found.add(value["Ref"])
    if set(value) == {"Fn::GetAtt"}:
        at = value["Fn::GetAtt"]
        found.add(at[0] if isinstance(at, list) else at.split(".")[0])
    if set(value) == {"Fn::Sub"}:
        text = value["Fn::Sub"] if isinstance(value["Fn::Sub"], str) else value["Fn::Sub"][0]
        found |= {part.split("}")[0].split(".")[0] for part in text.split("${")[1:]}
    return found


def replaced(value, instead):
    """The same with other values for references to these names."""
    if isinstance(value, list):
        return [replaced(inner, instead) for inner in value]
    if not isinstance(value, dict):
        return value
    refers = names(value) if len(value) == 1 and next(iter(value)) in ("Ref", "Fn::GetAtt") else set()
    if refers & set(instead):
        return instead[refers.pop()]
    if set(value) == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
        text = value["Fn::Sub"]
        for name, other in instead.items():
            for written in {part.split("}")[0] for part in text.split("${")[1:]}:
                if written.split(".")[0] == name:
                    text = text.replace("${" + written + "}", other)
        return {"Fn::Sub": text}
    return {key: replaced(inner, instead) for key, inner in value.items()}


def filtered(template):
    """The template without what ministack lacks, and what was left out, by type."""
    instead = {n: STAND_IN[r["Type"]] for n, r in template["Resources"].items() if r["Type"] in STAND_IN}
    template = replaced(copy.deepcopy(template), instead)
    resources, out = template["Resources"], {}
    gone = {
        name
        for name, r in resources.items()
        if r["Type"] in LACKING or any((r["Type"], p) in LACKING_PROPERTIES for p in r.get("Properties", {}))
    }
    while gone:
        for name in gone:
            out[name] = resources.pop(name)["Type"]
        for resource in resources.values():
            after = resource.get("DependsOn", [])
            after = [after] if isinstance(after, str) else after
            if left := [name for name in after if name not in out]:
                resource["DependsOn"] = left
            else:
                resource.pop("DependsOn", None)
        gone = {name for name, r in resources.items() if names(r.get("Properties", {})) & set(out)}
    outputs = template.get("Outputs", {})
    template["Outputs"] = {name: o for name, o in outputs.items() if not names(o) & set(out)}
    return template, out


def until(what, condition):
    """Waits until a condition holds: what it gave."""
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError(what)


def status(stack):
    try:
        return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    except botocore.exceptions.ClientError:
        return "GONE"


def ended(stack):
    found = until("the stack", lambda: (s := status(stack)) and not s.endswith("_IN_PROGRESS") and s)
    return found


plans = itertools.count(1)
last = {}


def planned(stack, template, kind):
    """A change set: its status, its reason and its changes."""
    last[stack] = f"judge-{next(plans)}"
    cloudformation.create_change_set(
        StackName=stack,
        ChangeSetName=last[stack],
        ChangeSetType=kind,
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        Tags=[{"Key": "dbird:service", "Value": stack}],
    )

    def settled():
        found = cloudformation.describe_change_set(StackName=stack, ChangeSetName=last[stack], IncludePropertyValues=True)
        return found["Status"] in ("CREATE_COMPLETE", "FAILED") and found

    return until("the change set", settled)


def execute(stack):
    cloudformation.execute_change_set(StackName=stack, ChangeSetName=last[stack])
    return ended(stack)


def live(stack, file):
    with open(file) as text:
        whole = json.load(text)
    template, out = filtered(whole)
    kinds = sorted({kind.removeprefix("AWS::") for kind in out.values()})
    print(f"{file}: {len(template['Resources'])} of {len(whole['Resources'])} resources; left out: {', '.join(kinds)}")
    holds(stack, "more is left out than judged", len(template["Resources"]) > len(out), out)

    plan = planned(stack, template, "CREATE")
    adds = {c["ResourceChange"]["LogicalResourceId"] for c in plan["Changes"] if c["ResourceChange"]["Action"] == "Add"}
    holds(stack, "the plan adds everything", adds == set(template["Resources"]), adds ^ set(template["Resources"]))
    made = execute(stack)
    holds(stack, "made", made == "CREATE_COMPLETE", (made, causes(stack)))
    if made != "CREATE_COMPLETE":
        return
    resources = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    holds(stack, "every resource is there", {r["LogicalResourceId"] for r in resources} == set(template["Resources"]))
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    holds(stack, "every output is there", {o["OutputKey"] for o in outputs} == set(template["Outputs"]), outputs)
    empty = [o["OutputKey"] for o in outputs if not o["OutputValue"]]
    holds(stack, "no output is empty", not empty, empty)

    again = planned(stack, template, "UPDATE")
    holds(stack, "the same again is no change", again["Status"] == "FAILED", again["Status"])
    known = ("didn't contain changes", "No updates are to be performed")
    holds(stack, "and says so", any(text in again.get("StatusReason", "") for text in known), again.get("StatusReason"))
    cloudformation.delete_change_set(StackName=stack, ChangeSetName=last[stack])

    changed = copy.deepcopy(template)
    changed["Resources"]["LogGroup"]["Properties"]["RetentionInDays"] = 3653
    plan = planned(stack, changed, "UPDATE")
    shown = {
        detail["Target"].get("Name")
        for change in plan["Changes"]
        if change["ResourceChange"]["LogicalResourceId"] == "LogGroup"
        for detail in change["ResourceChange"].get("Details", [])
    }
    holds(stack, "the plan shows the property", "RetentionInDays" in shown, plan["Changes"])
    holds(stack, "changed", execute(stack) == "UPDATE_COMPLETE", causes(stack))

    drift(stack, changed)

    failing = copy.deepcopy(changed)
    failing["Resources"]["LogGroup"]["Properties"]["RetentionInDays"] = 7
    failing["Resources"]["Bad"] = bad()
    planned(stack, failing, "UPDATE")
    undone = execute(stack)
    holds(stack, "a change that fails is undone", undone == "UPDATE_ROLLBACK_COMPLETE", undone)
    holds(stack, "and says why", any(name == "Bad" for name, _ in causes(stack)), causes(stack))
    holds(stack, "what it changed is back", retention(changed) == 3653, retention(changed))

    removed(stack, changed)


def bad():
    """A resource that can't be made."""
    trust = {"Statement": [{"Effect": "Allow", "NotPrincipal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    return {"Type": "AWS::IAM::Role", "DependsOn": "LogGroup", "Properties": {"AssumeRolePolicyDocument": trust}}


def causes(stack):
    """What failed, the first first."""
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [e for e in events if e["ResourceStatus"].endswith("_FAILED")]
    return [(e["LogicalResourceId"], e.get("ResourceStatusReason")) for e in reversed(failed)]


def retention(template):
    name = template["Resources"]["LogGroup"]["Properties"]["LogGroupName"]
    groups = client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return next((g.get("retentionInDays") for g in groups if g["logGroupName"] == name), None)


def drift(stack, template):
    def detected():
        asked = cloudformation.detect_stack_drift(StackName=stack)["StackDriftDetectionId"]

        def over():
            found = cloudformation.describe_stack_drift_detection_status(StackDriftDetectionId=asked)
            return found["DetectionStatus"] != "DETECTION_IN_PROGRESS" and found

        return until("the detection", over)

    def drifted():
        drifts = cloudformation.describe_stack_resource_drifts(StackName=stack)["StackResourceDrifts"]
        return {d["LogicalResourceId"] for d in drifts if d["StackResourceDriftStatus"] in ("MODIFIED", "DELETED")}

    holds(stack, "the detection ends", detected()["DetectionStatus"] == "DETECTION_COMPLETE")
    before = drifted()
    name = template["Resources"]["LogGroup"]["Properties"]["LogGroupName"]
    client("logs").put_retention_policy(logGroupName=name, retentionInDays=1)
    detected()
    holds(stack, "a change by hand is drift", drifted() - before == {"LogGroup"}, drifted() - before)
    client("logs").put_retention_policy(logGroupName=name, retentionInDays=3653)


def removed(stack, template):
    kept = {n for n, r in template["Resources"].items() if r.get("DeletionPolicy") == "Retain"}
    holds(stack, "what holds data is kept", any(name.startswith("Data") for name in kept), kept)
    physical = {
        r["LogicalResourceId"]: r["PhysicalResourceId"]
        for r in cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    }
    cloudformation.update_termination_protection(StackName=stack, EnableTerminationProtection=True)
    try:
        cloudformation.delete_stack(StackName=stack)
        wrong.append(f"{stack}: a protected stack could be deleted")
    except botocore.exceptions.ClientError as error:
        holds(stack, "protected", "TerminationProtection" in str(error), error)
    cloudformation.update_termination_protection(StackName=stack, EnableTerminationProtection=False)
    identity = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=stack)
    gone = ended(identity)
    holds(stack, "deleted", gone in ("DELETE_COMPLETE", "GONE"), gone)
    holds(stack, "its logs are gone", retention(template) is None, retention(template))
    if "DataRepository" in physical:
        left = client("ecr").describe_repositories(repositoryNames=[physical["DataRepository"]])["repositories"]
        holds(stack, "its images are there", len(left) == 1, left)
        client("ecr").delete_repository(repositoryName=physical["DataRepository"], force=True)
    if "DataFileSystem" in physical:
        left = client("efs").describe_file_systems(FileSystemId=physical["DataFileSystem"])["FileSystems"]
        holds(stack, "its files are there", len(left) == 1, left)


def failed(stack, file):
    """A stack that can't be made is taken back whole."""
    with open(file) as text:
        template, _ = filtered(json.load(text))
    for resource in template["Resources"].values():
        resource.pop("DeletionPolicy", None)
    template["Resources"]["Bad"] = bad()
    planned(stack, template, "CREATE")
    found = execute(stack)
    holds(stack, "a creation that fails is undone", found == "ROLLBACK_COMPLETE", found)
    holds(stack, "its first cause", causes(stack)[:1] and causes(stack)[0][0] == "Bad", causes(stack))
    holds(stack, "nothing is left", retention(template) is None, retention(template))


def lacks():
    """What is left out is what ministack lacks, and nothing else."""
    for kind in sorted(LACKING):
        try:
            planned("lacking", {"Resources": {"One": {"Type": kind, "Properties": {}}}}, "CREATE")
            wrong.append(f"{kind} is known to ministack by now: it need not be left out")
        except botocore.exceptions.ClientError as error:
            holds("lacking", kind, "Unrecognized resource types" in str(error), error)


def main():
    lacks()
    for number, file in enumerate(FILES):
        for lead, stack in ((live, f"judged-{number}"), (failed, f"failing-{number}")):
            if lead is failed and number:
                continue
            try:
                lead(stack, file)
            except Exception as error:  # whatever it is, it is told
                wrong.append(f"{stack} ({file}): {error!r}")
    for line in wrong:
        print(line)
    print(f"{len(FILES)} templates, {len(wrong)} things are wrong")
    return 1 if wrong or not FILES else 0


if __name__ == "__main__":
    sys.exit(main())
