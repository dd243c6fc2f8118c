"""Judges recorded traffic by botocore's models of the services: every request and every answer, member by member.

    python models.py RECORD...

A record has one JSON object a line: service, operation, input, status, output, code. Every finding is printed once, with
how often it was made; the exit code is 1 if there was one, 2 if nothing was recorded.
"""

import collections
import json
import sys

import botocore.loaders
import botocore.model

# The signing name of a service, and what botocore calls it.
NAMES = {
    "acm": "acm",
    "application-autoscaling": "application-autoscaling",
    "cloudformation": "cloudformation",
    "codedeploy": "codedeploy",
    "ec2": "ec2",
    "ecr": "ecr",
    "ecs": "ecs",
    "elasticfilesystem": "efs",
    "elasticloadbalancing": "elbv2",
    "iam": "iam",
    "kms": "kms",
    "logs": "logs",
    "monitoring": "cloudwatch",
    "s3": "s3",
    "secretsmanager": "secretsmanager",
    "servicequotas": "service-quotas",
    "sns": "sns",
    "ssm": "ssm",
    "sts": "sts",
}

# What any service may answer, whatever its model says of an operation; each API reference lists them as common errors.
COMMON = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InternalFailure",
    "InvalidClientTokenId",
    "InvalidParameterValue",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "UnrecognizedClientException",
    "ValidationError",
    "ValidationException",
}

# Codes that services answer and their models do not list, by service.
UNLISTED = {
    # The models of both say nothing of errors that S3 and EC2 document in tables of their own.
    "s3": {"NoSuchKey", "NoSuchBucket", "PreconditionFailed", "NotModified", "InvalidRange", "ConditionalRequestConflict"},
    "ec2": None,
}

# Values that AWS itself answers beyond its model's enumerations.
BEYOND = {
    # A stack's own events tell its status, which has more words than that of a resource.
    ("cloudformation", "ResourceStatus"): {
        "REVIEW_IN_PROGRESS",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    },
}

WHOLE = {"integer": 32, "long": 64}


class Judge:
    def __init__(self):
        self.loader = botocore.loaders.Loader()
        self.models = {}
        self.found = collections.Counter()
        self.calls = collections.Counter()

    def model(self, service):
        if service not in self.models:
            name = NAMES.get(service)
            self.models[service] = name and botocore.model.ServiceModel(
                self.loader.load_service_model(name, "service-2"), name
            )
        return self.models[service]

    def tell(self, call, where, what):
        self.found[f"{call['service']}:{call['operation']} {where}: {what}"] += 1

    def call(self, call):
        model = self.model(call["service"])
        if model is None:
            return self.tell(call, "service", "botocore has no model of it")
        if call["operation"] not in model.operation_names:
            return self.tell(call, "operation", "not in the model")
        self.calls[f"{call['service']}:{call['operation']}"] += 1
        operation = model.operation_model(call["operation"])
        # Text stands for numbers and booleans where the protocol knows nothing else.
        text = model.metadata["protocol"] in ("query", "ec2", "rest-xml")
        refused = call["code"] is not None
        # What was refused may well have been wrong.
        if not refused:
            self.value(call, "request", operation.input_shape, call["input"], text, asked=True)
        if refused:
            return self.refusal(call, model, operation)
        if not 200 <= call["status"] < 300:
            return self.tell(call, "answer", f"status {call['status']} without a code")
        self.value(call, "answer", operation.output_shape, call["output"], False, asked=False)

    def refusal(self, call, model, operation):
        known = set(COMMON)
        for shape in operation.error_shapes:
            known.add(shape.name)
            known.add(shape.metadata.get("error", {}).get("code", shape.name))
        unlisted = UNLISTED.get(call["service"], set())
        if unlisted is not None and call["code"] not in known | unlisted:
            self.tell(call, "refusal", f"{call['code']} is not in the model")

    def value(self, call, where, shape, value, text, asked):
        if shape is None:
            if value not in (None, {}, ""):
                self.tell(call, where, f"nothing belongs here, and there is {short(value)}")
            return
        if value is None:
            # Encoders leave such members out.
            return
        judge = getattr(self, shape.type_name, None)
        if judge is None:
            return self.tell(call, where, f"a {shape.type_name} can't be judged")
        judge(call, where, shape, value, text, asked)

    def structure(self, call, where, shape, value, text, asked):
        if getattr(shape, "is_document_type", False):
            return
        if text and value == "" and not shape.required_members:
            return
        if not isinstance(value, dict):
            return self.tell(call, where, f"not a structure: {short(value)}")
        names = {wire(shape, name, member, text): (name, member) for name, member in shape.members.items()}
        for name, inner in value.items():
            # What the record adds: S3's status, and the key that a path would have.
            if call["service"] == "s3" and (name.startswith("$") or (name == "Key" and not inner)):
                continue
            if name not in names and not (name in shape.members and call["service"] in ("s3", "ec2")):
                self.tell(call, f"{where}.{name}", "unknown member")
                continue
            member = names[name][1] if name in names else shape.members[name]
            self.value(call, f"{where}.{name}", member, inner, text, asked)
        given = {name for name, inner in value.items() if inner is not None}
        for name in shape.required_members:
            sent = wire(shape, name, shape.members[name], text)
            if sent not in given and name not in given:
                self.tell(call, f"{where}.{name}", "required, and missing")
        if getattr(shape, "is_tagged_union", False) and len(given) != 1:
            self.tell(call, where, f"one member of a union, not {len(given)}")

    def list(self, call, where, shape, value, text, asked):
        if text and value == "":
            value = []
        if text and isinstance(value, dict) and all(key.isdigit() for key in value):
            value = [value[key] for key in sorted(value, key=int)]
        if not isinstance(value, list):
            return self.tell(call, where, f"not a list: {short(value)}")
        self.size(call, where, shape, len(value), asked)
        for inner in value:
            if inner is None:
                self.tell(call, f"{where}[]", "an empty element")
            self.value(call, f"{where}[]", shape.member, inner, text, asked)

    def map(self, call, where, shape, value, text, asked):
        if not isinstance(value, dict):
            return self.tell(call, where, f"not a map: {short(value)}")
        for key, inner in value.items():
            self.value(call, f"{where}{{}}", shape.key, key, text, asked)
            self.value(call, f"{where}{{{key if shape.key.enum else ''}}}", shape.value, inner, text, asked)

    def string(self, call, where, shape, value, text, asked):
        if not isinstance(value, str):
            return self.tell(call, where, f"not text: {short(value)}")
        beyond = () if asked else BEYOND.get((call["service"], shape.name), ())
        if shape.enum and value not in shape.enum and value not in beyond:
            self.tell(call, where, f"{value!r} is none of {', '.join(shape.enum)}")
        # An empty text stands for an absent member in some answers of AWS itself.
        if value or asked:
            self.size(call, where, shape, len(value), asked)

    def size(self, call, where, shape, length, asked):
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        # Services answer more than their models say, and take no more than they say.
        if asked and least is not None and length < least:
            self.tell(call, where, f"{length} long, at least {least}")
        if asked and most is not None and length > most:
            self.tell(call, where, f"{length} long, at most {most}")

    def number(self, call, where, shape, value, text, asked):
        whole = shape.type_name in WHOLE
        try:
            if isinstance(value, bool) or (isinstance(value, str) and not text):
                raise ValueError
            value = int(value) if whole and (isinstance(value, str) or value == int(value)) else float(value)
            if whole and isinstance(value, float):
                raise ValueError
        except (TypeError, ValueError):
            return self.tell(call, where, f"not a {shape.type_name}: {short(value)}")
        if whole and not -(2 ** (WHOLE[shape.type_name] - 1)) <= value < 2 ** (WHOLE[shape.type_name] - 1):
            self.tell(call, where, f"too big for a {shape.type_name}: {value}")
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if (least is not None and value < least) or (most is not None and value > most):
            self.tell(call, where, f"{value} is not between {least} and {most}")

    integer = double = number

    def boolean(self, call, where, shape, value, text, asked):
        if not (isinstance(value, bool) or (text and value in ("true", "false"))):
            self.tell(call, where, f"not a boolean: {short(value)}")

    def timestamp(self, call, where, shape, value, text, asked):
        answered = isinstance(value, dict) and list(value) == ["$timestamp_ms"]
        sent = asked and (isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)))
        if not (sent if asked else answered):
            self.tell(call, where, f"not a time: {short(value)}")

    def blob(self, call, where, shape, value, text, asked):
        if not isinstance(value, str):
            self.tell(call, where, f"not bytes: {short(value)}")


# Python's words are AWS's types.
setattr(Judge, "float", Judge.number)
setattr(Judge, "long", Judge.number)


def wire(shape, name, member, text):
    """The name by which a member goes over the wire."""
    sent = member.serialization.get("name", name)
    if text and "queryName" in member.serialization:
        return member.serialization["queryName"]
    return sent


def typed(shape, value):
    """What was recorded, as boto3 takes it: the query protocol sends text alone."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        return {name: typed(shape.members[name], inner) for name, inner in value.items() if name in shape.members}
    if kind == "list":
        return [typed(shape.member, inner) for inner in value] if isinstance(value, list) else []
    if kind == "map" and isinstance(value, dict):
        return {name: typed(shape.value, inner) for name, inner in value.items()}
    if kind in ("integer", "long") and isinstance(value, str):
        return int(value)
    if kind in ("float", "double") and isinstance(value, str):
        return float(value)
    if kind == "boolean" and isinstance(value, str):
        return value == "true"
    return value


def short(value):
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def main(files):
    judge = Judge()
    for file in files:
        with open(file) as record:
            for line in record:
                call = json.loads(line)
                if isinstance(call["output"], dict) and "$upstream" in call["output"]:
                    continue
                judge.call(call)
    calls = sum(judge.calls.values())
    print(f"{calls} calls of {len(judge.calls)} operations in {len(files)} records")
    for finding, times in sorted(judge.found.items()):
        print(f"{finding} ({times} times)")
    if not calls:
        print("nothing was recorded")
        return 2
    return 1 if judge.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
