"""Reads back with boto3 what dbird made for a service, and judges that it is whole: each thing is there, and what it refers
to is there too.

    python read_back.py URL SERVICE ENVIRONMENT RELEASES

Its last line is JSON: how many there are of everything. The exit code is 1 if something is not as it should be.
"""

import json
import sys
import traceback

import boto3

URL, SERVICE, ENVIRONMENT, RELEASES = sys.argv[1:5]
BASE = f"{SERVICE}-{ENVIRONMENT}"
wrong = []
count = {}


def client(name):
    return boto3.client(name, endpoint_url=URL, region_name="us-east-1")


def holds(what, truth, found=""):
    if not truth:
        wrong.append(f"{what}: {found}")


def same(what, found, wanted):
    holds(what, found == wanted, f"{found!r}, not {wanted!r}")


def pages(call, member, **given):
    """All of a list, however many answers it comes in."""
    service, operation = call
    return [item for page in service.get_paginator(operation).paginate(**given) for item in page.get(member, [])]


def stack():
    cloudformation = client("cloudformation")
    (found,) = cloudformation.describe_stacks(StackName=BASE)["Stacks"]
    holds("the stack is whole", found["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), found["StackStatus"])
    same("termination protection", found["EnableTerminationProtection"], True)
    tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
    same("the stack's tags", (tags.get("dbird:service"), tags.get("dbird:environment")), (SERVICE, ENVIRONMENT))
    resources = pages((cloudformation, "list_stack_resources"), "StackResourceSummaries", StackName=BASE)
    bad = [r["LogicalResourceId"] for r in resources if not r["ResourceStatus"].endswith("_COMPLETE")]
    same("resources that are not whole", bad, [])
    described = cloudformation.describe_stack_resources(StackName=BASE)["StackResources"]
    same("described and listed", {r["LogicalResourceId"] for r in described}, {r["LogicalResourceId"] for r in resources})
    template = cloudformation.get_template(StackName=BASE)["TemplateBody"]
    template = template if isinstance(template, dict) else json.loads(template)
    same("the template's resources", set(template["Resources"]), {r["LogicalResourceId"] for r in resources})
    events = pages((cloudformation, "describe_stack_events"), "StackEvents", StackName=BASE)
    whole = {e["LogicalResourceId"] for e in events if e["ResourceStatus"] == "CREATE_COMPLETE"}
    holds("every resource has told that it was made", whole >= set(template["Resources"]), whole)
    count["stacks"] = len([s for s in pages((cloudformation, "list_stacks"), "StackSummaries")])
    count["resources"] = len(resources)
    count["change sets"] = len(pages((cloudformation, "list_change_sets"), "Summaries", StackName=BASE))
    return {o["OutputKey"]: o["OutputValue"] for o in found["Outputs"]}


def balancer(outputs):
    elb = client("elbv2")
    balancers = pages((elb, "describe_load_balancers"), "LoadBalancers")
    (found,) = [b for b in balancers if b["LoadBalancerArn"].endswith(outputs["LoadBalancer"])]
    same("the load balancer's address", found["DNSName"], outputs["Address"])
    same("its state", found["State"]["Code"], "active")
    listeners = pages((elb, "describe_listeners"), "Listeners", LoadBalancerArn=found["LoadBalancerArn"])
    arns = {listener["ListenerArn"] for listener in listeners}
    holds("its listeners", arns >= {outputs["ProductionListener"], outputs["TestListener"]}, arns)
    groups = [outputs["BlueTargetGroup"], outputs["GreenTargetGroup"]]
    described = elb.describe_target_groups(TargetGroupArns=groups)["TargetGroups"]
    same("the target groups", {g["TargetGroupArn"] for g in described}, set(groups))
    same("what they point at", {g["TargetType"] for g in described}, {"ip"})
    rules = pages((elb, "describe_rules"), "Rules", ListenerArn=outputs["ProductionListener"])
    own = [r for r in rules if any(a["Type"] == "forward" for a in r["Actions"])]
    same("rules that forward", len(own), 1)
    weights = {
        target["TargetGroupArn"]: target["Weight"]
        for action in own[0]["Actions"]
        for target in action["ForwardConfig"]["TargetGroups"]
    }
    same("all traffic goes somewhere", sum(weights.values()), 100)
    (live,) = [arn for arn, weight in weights.items() if weight == 100]
    health = elb.describe_target_health(TargetGroupArn=live)["TargetHealthDescriptions"]
    holds("somebody healthy serves", any(h["TargetHealth"]["State"] == "healthy" for h in health), health)
    closed = [r for r in rules if any(a["Type"] == "fixed-response" for a in r["Actions"]) and not r["IsDefault"]]
    same("/metrics is closed", [a["FixedResponseConfig"]["StatusCode"] for r in closed for a in r["Actions"]], ["404"])
    (tags,) = elb.describe_tags(ResourceArns=[own[0]["RuleArn"]])["TagDescriptions"]
    same("the rule's owner", {t["Key"]: t["Value"] for t in tags["Tags"]}.get("dbird:environment"), ENVIRONMENT)
    count["listeners"], count["target groups"] = len(listeners), len(pages((elb, "describe_target_groups"), "TargetGroups"))
    test = pages((elb, "describe_rules"), "Rules", ListenerArn=outputs["TestListener"])
    count["rules"], count["test rules"] = len(rules), len(test)
    count["targets that serve"] = len([h for h in health if h["TargetHealth"]["State"] == "healthy"])
    return live


def service(outputs, live):
    ecs = client("ecs")
    (found,) = ecs.describe_services(cluster=outputs["Cluster"], services=[SERVICE], include=["TAGS"])["services"]
    same("the service", found["status"], "ACTIVE")
    same("its tasks", (found["runningCount"], found["pendingCount"]), (found["desiredCount"], 0))
    definitions = pages((ecs, "list_task_definitions"), "taskDefinitionArns", familyPrefix=BASE)
    same("a task definition for each release", len(definitions), int(RELEASES))
    sets = [s for s in found.get("taskSets", []) if s["status"] == "PRIMARY"]
    serving = sets[0]["taskDefinition"] if sets else found["taskDefinition"]
    if sets:
        same("the live colour is the primary's", [b["targetGroupArn"] for b in sets[0]["loadBalancers"]], [live])
    described = ecs.describe_task_definition(taskDefinition=serving, include=["TAGS"])
    tags = {tag["key"]: tag["value"] for tag in described["tags"]}
    same("the release that serves", tags.get("dbird:release"), f"r{RELEASES}")
    definition = described["taskDefinition"]
    same("its size", (definition["cpu"], definition["memory"]), ("256", "512"))
    (volume,) = definition["volumes"]
    efs = volume["efsVolumeConfiguration"]
    same("its store", (efs["fileSystemId"], efs["transitEncryption"]), (outputs["FileSystem"], "ENABLED"))
    same("by its access point", efs["authorizationConfig"]["accessPointId"], outputs["AccessPoint"])
    arns = pages((ecs, "list_tasks"), "taskArns", cluster=outputs["Cluster"], serviceName=SERVICE)
    tasks = ecs.describe_tasks(cluster=outputs["Cluster"], tasks=arns)["tasks"]
    running = [t for t in tasks if t["lastStatus"] == "RUNNING" and t["taskDefinitionArn"] == serving]
    same("tasks of that release", len(running), found["desiredCount"])
    count["task definitions"], count["running tasks"] = len(definitions), len(running)
    count["services"] = len(pages((ecs, "list_services"), "serviceArns", cluster=outputs["Cluster"]))
    count["clusters"] = len(pages((ecs, "list_clusters"), "clusterArns"))
    image = running[0]["containers"][0]["image"]
    holds("it runs an image by its digest", "@sha256:" in image, image)
    return image.rsplit("@", 1)[1], running[0]["taskArn"].rsplit("/", 1)[1]


def deployments(outputs):
    codedeploy = client("codedeploy")
    (application,) = pages((codedeploy, "list_applications"), "applications")
    same("the application", application, outputs["Application"])
    same("its platform", codedeploy.get_application(applicationName=BASE)["application"]["computePlatform"], "ECS")
    (group,) = pages((codedeploy, "list_deployment_groups"), "deploymentGroups", applicationName=BASE)
    info = codedeploy.get_deployment_group(applicationName=BASE, deploymentGroupName=group)["deploymentGroupInfo"]
    same("the group's service", info["ecsServices"], [{"serviceName": SERVICE, "clusterName": outputs["Cluster"]}])
    same("the group's role", info["serviceRoleArn"], outputs["DeploymentRole"])
    pair = info["loadBalancerInfo"]["targetGroupPairInfoList"][0]
    same("its listener", pair["prodTrafficRoute"]["listenerArns"], [outputs["ProductionListener"]])
    ids = pages((codedeploy, "list_deployments"), "deployments", applicationName=BASE, deploymentGroupName=group)
    done = codedeploy.batch_get_deployments(deploymentIds=ids)["deploymentsInfo"] if ids else []
    same("deployments that did not end well", [d for d in done if d["status"] != "Succeeded"], [])
    for each in done:
        (target,) = codedeploy.list_deployment_targets(deploymentId=each["deploymentId"])["targetIds"]
        found = codedeploy.get_deployment_target(deploymentId=each["deploymentId"], targetId=target)["deploymentTarget"]
        same("its target", found["ecsTarget"]["status"], "Succeeded")
        same("its events", {e["status"] for e in found["ecsTarget"]["lifecycleEvents"]}, {"Succeeded"})
    count["deployments"] = len(ids)


def images(outputs, digest):
    ecr = client("ecr")
    name = outputs["Repository"].split("/", 1)[1]
    (repository,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    same("its tags don't move", repository["imageTagMutability"].split("_")[0], "IMMUTABLE")
    same("it is scanned", repository["imageScanningConfiguration"]["scanOnPush"], True)
    found = pages((ecr, "describe_images"), "imageDetails", repositoryName=name)
    holds("what runs is there", any(image["imageDigest"] == digest for image in found), digest)
    (pulled,) = ecr.batch_get_image(repositoryName=name, imageIds=[{"imageDigest": digest}])["images"]
    holds("its manifest has layers", json.loads(pulled["imageManifest"]).get("layers"), pulled["imageManifest"])
    json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])
    count["images"] = len(found)


def data(outputs):
    efs = client("efs")
    (system,) = pages((efs, "describe_file_systems"), "FileSystems")
    same("the file system", system["FileSystemId"], outputs["FileSystem"])
    same("encrypted", system["Encrypted"], True)
    targets = efs.describe_mount_targets(FileSystemId=outputs["FileSystem"])["MountTargets"]
    same("mount targets", {t["SubnetId"] for t in targets}, {outputs["SubnetA"], outputs["SubnetB"]})
    (point,) = pages((efs, "describe_access_points"), "AccessPoints", FileSystemId=outputs["FileSystem"])
    same("the access point", point["AccessPointId"], outputs["AccessPoint"])
    policy = efs.describe_backup_policy(FileSystemId=outputs["FileSystem"])["BackupPolicy"]["Status"]
    holds("backups", policy in ("ENABLED", "ENABLING"), policy)
    count["file systems"], count["mount targets"] = 1, len(targets)


def watch(outputs, task):
    cloudwatch, logs = client("cloudwatch"), client("logs")
    alarms = pages((cloudwatch, "describe_alarms"), "MetricAlarms", AlarmNamePrefix=BASE)
    names = {alarm["AlarmName"] for alarm in alarms}
    wanted = {f"{BASE}-{colour}-{what}" for colour in ("blue", "green") for what in ("errors", "slow")}
    holds("an alarm for each colour", names >= wanted, names)
    (group,) = [g for g in pages((logs, "describe_log_groups"), "logGroups") if g["logGroupName"] == outputs["LogGroup"]]
    holds("logs end", group.get("retentionInDays"), group)
    streams = pages((logs, "describe_log_streams"), "logStreams", logGroupName=outputs["LogGroup"])
    (own,) = [s["logStreamName"] for s in streams if s["logStreamName"].endswith(task)]
    events = logs.get_log_events(logGroupName=outputs["LogGroup"], logStreamName=own, startFromHead=True)["events"]
    holds("the task says that it listens", any("listening on port" in e["message"] for e in events), events)
    found = logs.filter_log_events(logGroupName=outputs["LogGroup"], filterPattern="listening")["events"]
    holds("and a search finds it", any(e["logStreamName"] == own for e in found), found)
    count["alarms"] = len(alarms)


def roles(outputs):
    iam = client("iam")
    for output in ("TaskRole", "ExecutionRole", "DeploymentRole"):
        name = outputs[output].rsplit("/", 1)[1]
        role = iam.get_role(RoleName=name)["Role"]
        same(output, role["Arn"], outputs[output])
        holds(f"who may be {output}", "sts:AssumeRole" in json.dumps(role["AssumeRolePolicyDocument"]), role)


def part(judge, *given):
    """What a part found; one that can't go on does not keep the others from it."""
    try:
        return judge(*given)
    except Exception as error:  # whatever it is, it is told
        place = traceback.extract_tb(error.__traceback__)[1]
        wrong.append(f"{judge.__name__}, {place.line}: {error!r}")
        return None


def main():
    account = client("sts").get_caller_identity()["Account"]
    outputs = stack()
    live = part(balancer, outputs)
    running = part(service, outputs, live)
    part(deployments, outputs)
    digest, task = running or (None, "none")
    part(images, outputs, digest)
    part(data, outputs)
    part(watch, outputs, task)
    part(roles, outputs)
    for line in wrong:
        print(line)
    print(f"account {account}: {len(wrong)} things are wrong")
    print(json.dumps(count, sort_keys=True))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
