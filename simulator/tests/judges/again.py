"""Makes dbird's recorded calls again, to moto, on ground of the same shape; and reads back that they say what they said.

    python again.py URL RECORD

Names that the account gave (of listeners, target groups, subnets, roles) become those of moto's. The exit code is 1 if
moto refused a call or keeps something else.
"""

import json
import sys
import time

import boto3
import botocore.exceptions

from models import NAMES, Judge, typed

URL, RECORD = sys.argv[1:3]
# What dbird calls and moto does well; all else it is not asked.
AGAIN = (
    "ecs:RegisterTaskDefinition",
    "elasticloadbalancing:CreateRule",
    "ecs:CreateService",
    "codedeploy:CreateDeploymentGroup",
    "codedeploy:CreateDeployment",
    "application-autoscaling:RegisterScalableTarget",
    "application-autoscaling:PutScalingPolicy",
    "monitoring:DescribeAlarms",
)
judge, wrong = Judge(), []


def client(name):
    return boto3.client(name, endpoint_url=URL, region_name="us-east-1")


def holds(what, truth, found=""):
    if not truth:
        wrong.append(f"{what}: {found}")


def recorded():
    """The calls of the record that are made again, in order and each once."""
    calls, seen = [json.loads(line) for line in open(RECORD)], []
    for call in calls:
        name = f"{call['service']}:{call['operation']}"
        if name in AGAIN and call["code"] is None and (name, call["input"]) not in seen:
            seen.append((name, call["input"]))
    missing = [name for name in AGAIN if name not in {name for name, _ in seen}]
    holds("the record lacks", not missing, missing)
    outputs = next(
        {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
        for call in calls
        if call["operation"] == "DescribeStacks" and call["code"] is None
        for stack in call["output"]["Stacks"]
        if stack.get("Outputs")
    )
    return seen, outputs


def ground(outputs):
    """What the stack would have made, and what moto calls it: old names and new ones."""
    ec2, elb = client("ec2"), client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    instead = {}
    for output, block, zone in (("SubnetA", "10.0.1.0/24", "us-east-1a"), ("SubnetB", "10.0.2.0/24", "us-east-1b")):
        made = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone)["Subnet"]["SubnetId"]
        instead[outputs[output]] = made
    subnets = list(instead.values())
    group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
    instead[outputs["TaskSecurityGroup"]] = group
    balancer = elb.create_load_balancer(Name="judged", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    for output, name in (("BlueTargetGroup", "blue"), ("GreenTargetGroup", "green")):
        made = elb.create_target_group(Name=name, Protocol="HTTP", Port=8080, VpcId=vpc, TargetType="ip")
        instead[outputs[output]] = made["TargetGroups"][0]["TargetGroupArn"]
        # CodeDeploy is told their names.
        instead[outputs[output].split("/")[-2]] = name
    for output, port in (("ProductionListener", 80), ("TestListener", 9000)):
        fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
        made = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=[fixed])
        instead[outputs[output]] = made["Listeners"][0]["ListenerArn"]
    client("ecs").create_cluster(clusterName=outputs["Cluster"])
    client("codedeploy").create_application(applicationName=outputs["Application"], computePlatform="ECS")
    alarm = {"MetricName": "Errors", "Namespace": "judged", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
    alarm |= {"Threshold": 1, "ComparisonOperator": "GreaterThanThreshold"}
    for colour in ("blue", "green"):
        for what in ("errors", "slow"):
            client("cloudwatch").put_metric_alarm(AlarmName=f"{outputs['Cluster']}-{colour}-{what}", **alarm)
    return instead


def renamed(value, instead):
    """The same by other names; longer ones first, as some are parts of others."""
    text = json.dumps(value)
    for old in sorted(instead, key=len, reverse=True):
        text = text.replace(old, instead[old])
    return json.loads(text)


def again(name, given, instead):
    service, operation = name.split(":")
    made = client(NAMES[service])
    method = next(m for m, o in made.meta.method_to_api_mapping.items() if o == operation)
    shape = judge.model(service).operation_model(operation).input_shape
    try:
        return getattr(made, method)(**typed(shape, renamed(given, instead)))
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        wrong.append(f"{name}: {error}")
        return None


def kept(seen, outputs, instead):
    """What moto says of it all afterwards."""
    elb, deploy, scaling = client("elbv2"), client("codedeploy"), client("application-autoscaling")
    blue, green = instead[outputs["BlueTargetGroup"]], instead[outputs["GreenTargetGroup"]]
    for output in ("ProductionListener", "TestListener"):
        rules = elb.describe_rules(ListenerArn=instead[outputs[output]])["Rules"]
        own = [r for r in rules if not r["IsDefault"]]
        holds(f"one rule on the {output}", len(own) == 1, rules)
        targets = own[0]["Actions"][0]["ForwardConfig"]["TargetGroups"]
        weights = {t["TargetGroupArn"]: t["Weight"] for t in targets}
        holds("the weights", sum(weights.values()) == 100 and set(weights) <= {blue, green}, weights)
    rule = elb.describe_rules(ListenerArn=instead[outputs["ProductionListener"]])["Rules"][0]["RuleArn"]
    targets = [{"TargetGroupArn": blue, "Weight": 90}, {"TargetGroupArn": green, "Weight": 10}]
    elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": targets}}])
    found = elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"][0]["ForwardConfig"]["TargetGroups"]
    holds("weights that were moved", [t["Weight"] for t in found] == [90, 10], found)
    given = renamed(next(given for name, given in seen if name == "codedeploy:CreateDeploymentGroup"), instead)
    info = deploy.get_deployment_group(
        applicationName=given["applicationName"], deploymentGroupName=given["deploymentGroupName"]
    )["deploymentGroupInfo"]
    for member in ("ecsServices", "loadBalancerInfo", "blueGreenDeploymentConfiguration", "deploymentStyle"):
        holds(f"the group's {member}", info[member] == given[member], info[member])
    targets = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    given = next(given for name, given in seen if name == "application-autoscaling:RegisterScalableTarget")
    holds("what scales", [t["MaxCapacity"] for t in targets] == [given["MaxCapacity"]], targets)
    policies = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    holds("how it scales", [p["PolicyType"] for p in policies] == ["TargetTrackingScaling"], policies)


def alarm(seen, outputs, instead):
    """The question that dbird asks before a rollout sees an alarm that is set off."""
    name, given = next((name, given) for name, given in seen if name == "monitoring:DescribeAlarms")
    fired = f"{outputs['Cluster']}-green-errors"
    client("cloudwatch").set_alarm_state(AlarmName=fired, StateValue="ALARM", StateReason="judged")
    found = again(name, {**given, "StateValue": "ALARM"}, instead)
    # moto answers with all that are named, whatever their state.
    loud = [a["AlarmName"] for a in found["MetricAlarms"] if a["StateValue"] == "ALARM"] if found else None
    holds("the alarm", loud == [fired], loud)


def things(outputs):
    """Images and logs, as dbird asks for them."""
    ecr, logs = client("ecr"), client("logs")
    ecr.create_repository(repositoryName=outputs["Cluster"], imageTagMutability="IMMUTABLE")
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": "sha256:" + "0" * 64}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config}
    manifest = json.dumps(manifest | {"layers": []})
    ecr.put_image(repositoryName=outputs["Cluster"], imageManifest=manifest, imageTag="release-dev-r1")
    found = ecr.describe_images(repositoryName=outputs["Cluster"])["imageDetails"]
    holds("the image's tag", [i["imageTags"] for i in found] == [["release-dev-r1"]], found)
    group = outputs["LogGroup"]
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="task/tiny/1")
    event = {"timestamp": int(time.time() * 1000), "message": "listening on port 1"}
    logs.put_log_events(logGroupName=group, logStreamName="task/tiny/1", logEvents=[event])
    found = logs.filter_log_events(logGroupName=group, filterPattern="listening")["events"]
    holds("the logs", [e["message"] for e in found] == ["listening on port 1"], found)


def main():
    seen, outputs = recorded()
    instead = ground(outputs)
    for name in AGAIN:
        for given in [given for other, given in seen if other == name]:
            again(name, given, instead)
    kept(seen, outputs, instead)
    alarm(seen, outputs, instead)
    things(outputs)
    for line in wrong:
        print(line)
    print(f"{len(seen)} calls made again, {len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
