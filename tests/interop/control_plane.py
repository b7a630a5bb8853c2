"""The control plane as boto3 finds it: what provisioning at scale, clean-up and authorization need.
Arguments: a folder with `bulk/` for the bucket. Prints `ok` at the end; fails by assertion."""

import datetime
import json
import sys
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FOLDER = sys.argv[1]
ROLE = "arn:aws:iam::123456789012:role/Provisioning"
iot = boto3.client("iot")


def refused(name, call, status=None, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == name, error
        assert status in (None, error.response["ResponseMetadata"]["HTTPStatusCode"]), error.response
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call} was not refused")


def csr(name):
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts)).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


# Certificates that AWS makes.
made = iot.create_keys_and_certificate(setAsActive=True)
assert made["keyPair"]["PrivateKey"].startswith("-----BEGIN RSA PRIVATE KEY-----")
key = serialization.load_pem_private_key(made["keyPair"]["PrivateKey"].encode(), None)
leaf = x509.load_pem_x509_certificate(made["certificatePem"].encode())
assert key.key_size == 2048 and key.public_key() == leaf.public_key()
assert made["keyPair"]["PublicKey"].encode() == key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
assert leaf.fingerprint(hashes.SHA256()).hex() == made["certificateId"]
assert leaf.not_valid_after_utc.isoformat() == "2049-12-31T23:59:59+00:00"
one = iot.create_certificate_from_csr(certificateSigningRequest=csr("pump-1"))
two = iot.create_certificate_from_csr(certificateSigningRequest=csr(""))
assert x509.load_pem_x509_certificate(one["certificatePem"].encode()).subject.rfc4514_string() == "CN=pump-1"
assert x509.load_pem_x509_certificate(two["certificatePem"].encode()).subject.rfc4514_string() == "CN=AWS IoT Certificate"
assert iot.describe_certificate(certificateId=one["certificateId"])["certificateDescription"]["status"] == "INACTIVE"
refused("InvalidRequestException", iot.create_certificate_from_csr, 400, certificateSigningRequest="x")

# RegisterThing.
body = json.dumps({
    "Parameters": {"ThingName": {"Type": "String"}, "CSR": {"Type": "String"}},
    "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
        "certificate": {"Type": "AWS::IoT::Certificate",
                        "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": json.dumps({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "iot:Connect",
                           "Resource": "arn:aws:iot:eu-west-1:123456789012:client/${iot:Connection.Thing.ThingName}"}],
        })}},
    },
})
done = iot.register_thing(templateBody=body, parameters={"ThingName": "pump-1", "CSR": csr("pump-1")})
arns = done["resourceArns"]
assert set(arns) == {"thing", "certificate", "policy"} and arns["thing"].endswith(":thing/pump-1"), arns
assert iot.list_thing_principals(thingName="pump-1")["principals"] == [arns["certificate"]]
id = arns["certificate"].rsplit("/", 1)[1]
assert iot.describe_certificate(certificateId=id)["certificateDescription"]["status"] == "ACTIVE"
assert iot.describe_certificate(certificateId=id)["certificateDescription"]["certificatePem"] == done["certificatePem"]
refused("ResourceRegistrationFailureException", iot.register_thing, 400, templateBody=body,
        parameters={"ThingName": "pump 2", "CSR": csr("x")})
refused("InvalidRequestException", iot.register_thing, 400, templateBody="{}", parameters={})

# TestAuthorization.
client = "arn:aws:iot:eu-west-1:123456789012:client/"
ask = lambda **more: iot.test_authorization(
    principal=arns["certificate"], authInfos=[{"actionType": "CONNECT", "resources": [client + "pump-1"]}], **more
)["authResults"][0]
result = ask(clientId="pump-1")
assert result["authDecision"] == "ALLOWED", result
assert result["allowed"]["policies"][0]["policyArn"] == arns["policy"], result
assert ask(clientId="other")["authDecision"] == "IMPLICIT_DENY"
assert ask(clientId="pump-1", policyNamesToSkip=[arns["policy"].rsplit("/", 1)[1]])["authDecision"] == "IMPLICIT_DENY"
iot.create_policy(policyName="never", policyDocument=json.dumps({
    "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "iot:*", "Resource": "*"}]}),
    tags=[{"Key": "why", "Value": "test"}])
result = ask(clientId="pump-1", policyNamesToAdd=["never"])
assert result["authDecision"] == "EXPLICIT_DENY", result
assert [p["policyName"] for p in result["denied"]["explicitDeny"]["policies"]] == ["never"], result

# Tags, given at the beginning and later.
tags = lambda arn: {t["Key"]: t["Value"] for t in iot.list_tags_for_resource(resourceArn=arn)["tags"]}
never = iot.get_policy(policyName="never")["policyArn"]
assert tags(never) == {"why": "test"}
iot.tag_resource(resourceArn=never, tags=[{"Key": "why", "Value": "still"}, {"Key": "who", "Value": "me"}])
iot.untag_resource(resourceArn=never, tagKeys=["who", "nothing"])
assert tags(never) == {"why": "still"}
refused("ResourceNotFoundException", iot.tag_resource, 404, resourceArn=never + "-2", tags=[])
refused("InvalidRequestException", iot.tag_resource, 400, resourceArn=never, tags=[{"Key": "aws:x", "Value": ""}])
refused("LimitExceededException", iot.tag_resource, 410, resourceArn=never,
        tags=[{"Key": str(n), "Value": ""} for n in range(50)])
refused("InvalidRequestException", iot.create_thing_type, 400, thingTypeName="t", tags=[{"Key": "aws:x", "Value": ""}])
refused("ResourceNotFoundException", iot.describe_thing_type, 404, thingTypeName="t")
iot.delete_policy(policyName="never")
iot.create_policy(policyName="never", policyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:*","Resource":"*"}]}')
assert tags(never) == {}

# The deprecated ways to attach a policy.
iot.attach_principal_policy(policyName="never", principal=made["certificateArn"])
assert iot.list_policy_principals(policyName="never")["principals"] == [made["certificateArn"]]
assert [p["policyName"] for p in iot.list_principal_policies(principal=made["certificateArn"])["policies"]] == ["never"]
iot.detach_principal_policy(policyName="never", principal=made["certificateArn"])
refused("ResourceNotFoundException", iot.detach_principal_policy, 404, policyName="never", principal=made["certificateArn"])

# Thing types end slowly.
iot.create_thing_type(thingTypeName="pump")
iot.create_thing(thingName="typed", thingTypeName="pump")
refused("InvalidRequestException", iot.delete_thing_type, 400, thingTypeName="pump")
iot.deprecate_thing_type(thingTypeName="pump")
metadata = iot.describe_thing_type(thingTypeName="pump")["thingTypeMetadata"]
assert metadata["deprecated"] and metadata["deprecationDate"], metadata
refused("InvalidRequestException", iot.create_thing, 400, thingName="late", thingTypeName="pump")
refused("InvalidRequestException", iot.delete_thing_type, 400, thingTypeName="pump")
iot.deprecate_thing_type(thingTypeName="pump", undoDeprecate=True)
iot.create_thing(thingName="late", thingTypeName="pump")

# Groups above groups.
for name, parent in (("root", None), ("site", "root"), ("hall", "site"), ("other", None)):
    iot.create_thing_group(thingGroupName=name, **({"parentGroupName": parent} if parent else {}))
names = lambda **more: [g["groupName"] for g in iot.list_thing_groups(**more)["thingGroups"]]
assert names() == ["hall", "other", "root", "site"]
assert names(parentGroup="root") == ["site"]
assert names(parentGroup="root", recursive=True) == ["hall", "site"]
assert names(recursive=False) == ["other", "root"]
assert names(namePrefixFilter="s") == ["site"]
above = iot.describe_thing_group(thingGroupName="hall")["thingGroupMetadata"]["rootToParentThingGroups"]
assert [g["groupName"] for g in above] == ["root", "site"], above
iot.update_thing_groups_for_thing(thingName="pump-1", thingGroupsToAdd=["hall", "other"])
assert iot.list_things_in_thing_group(thingGroupName="root")["things"] == []
assert iot.list_things_in_thing_group(thingGroupName="root", recursive=True)["things"] == ["pump-1"]
version = iot.update_thing_group(thingGroupName="hall", expectedVersion=1, thingGroupProperties={
    "thingGroupDescription": "d", "attributePayload": {"attributes": {"a": "1"}, "merge": True}})["version"]
assert version == 2
refused("VersionConflictException", iot.update_thing_group, 409, thingGroupName="hall", expectedVersion=1,
        thingGroupProperties={})
refused("InvalidRequestException", iot.delete_thing_group, 400, thingGroupName="site")
iot.delete_thing_group(thingGroupName="hall")
iot.delete_thing_group(thingGroupName="hall")
assert [g["groupName"] for g in iot.list_thing_groups_for_thing(thingName="pump-1")["thingGroups"]] == ["other"]

# Billing groups.
iot.create_billing_group(billingGroupName="b1")
iot.create_billing_group(billingGroupName="b2", tags=[{"Key": "k", "Value": "v"}])
iot.add_thing_to_billing_group(billingGroupName="b1", thingName="pump-1")
assert iot.list_things_in_billing_group(billingGroupName="b1")["things"] == ["pump-1"]
iot.remove_thing_from_billing_group(billingGroupName="b1", thingName="pump-1")
assert iot.list_things_in_billing_group(billingGroupName="b1")["things"] == []
assert iot.update_billing_group(billingGroupName="b1", billingGroupProperties={"billingGroupDescription": "x"})["version"] == 2
iot.add_thing_to_billing_group(billingGroupName="b1", thingName="pump-1")
iot.delete_billing_group(billingGroupName="b1")
assert "billingGroupName" not in iot.describe_thing(thingName="pump-1")
assert [g["groupName"] for g in iot.list_billing_groups()["billingGroups"]] == ["b2"]

# A registration task, from its input to its reports.
with open(f"{FOLDER}/bulk/devices.json", "w") as file:
    for n in range(5):
        file.write(json.dumps({"ThingName": f"bulk-{n}", "CSR": csr(f"bulk-{n}")}) + "\n")
    file.write('{"ThingName": "bad name", "CSR": ""}\nrubbish\n')
start = dict(templateBody=body, inputFileBucket="bulk", roleArn=ROLE)


def finished(key):
    task = iot.start_thing_registration_task(inputFileKey=key, **start)["taskId"]
    for _ in range(200):
        about = iot.describe_thing_registration_task(taskId=task)
        if about["status"] in ("Completed", "Failed", "Cancelled"):
            return task, about
        time.sleep(0.05)
    raise AssertionError(about)


task, about = finished("devices.json")
assert (about["status"], about["successCount"], about["failureCount"], about["percentageProgress"]) == (
    "Completed", 5, 2, 100), about
reports = lambda kind: [
    json.loads(line)
    for link in iot.list_thing_registration_task_reports(taskId=task, reportType=kind)["resourceLinks"]
    for line in urllib.request.urlopen(link).read().decode().splitlines()
]
assert [line["lineNumber"] for line in reports("RESULTS")] == [1, 2, 3, 4, 5]
assert reports("RESULTS")[0]["response"]["ResourceArns"]["thing"].endswith(":thing/bulk-0")
assert [line["lineNumber"] for line in reports("ERRORS")] == [6, 7]
assert iot.describe_thing(thingName="bulk-4")["thingName"] == "bulk-4"
missing, about = finished("nothing.json")
assert about["status"] == "Failed" and "nothing.json" in about["message"], about
assert set(iot.list_thing_registration_tasks()["taskIds"]) == {task, missing}
assert iot.list_thing_registration_tasks(status="Completed")["taskIds"] == [task]
refused("InvalidRequestException", iot.stop_thing_registration_task, 400, taskId=task)
refused("ResourceNotFoundException", iot.describe_thing_registration_task, 404, taskId="x")

# Every list has pages that meet: one entry at a time is the same as all at once.
root = ec.generate_private_key(ec.SECP256R1())
now = datetime.datetime.now(datetime.timezone.utc)


def signed(name, key=None):
    """The CA of that name, or a certificate of the CA `root-0`."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, name if key is None else "root-0")]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1])
    builder = builder.public_key((key or root).public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=9))
    builder = builder.add_extension(x509.BasicConstraints(ca=key is None, path_length=None), critical=True)
    return builder.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


cas = [iot.register_ca_certificate(caCertificate=signed(f"root-{n}"), certificateMode="SNI_ONLY", setAsActive=True)
       for n in range(3)]
many = [iot.register_certificate(certificatePem=signed(f"leaf-{n}", ec.generate_private_key(ec.SECP256R1())), status="ACTIVE")
        for n in range(3)]
hub, target = many[0]["certificateArn"], iot.create_thing_group(thingGroupName="all")["thingGroupArn"]
iot.create_thing(thingName="many")
iot.create_policy(policyName="many", policyDocument='{"Version":"2012-10-17","Statement":[]}'.replace(
    "[]", '[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]'))
for n in range(3):
    document = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"arn:aws:iot:eu-west-1:123456789012:client/{n}"}]})
    iot.create_policy_version(policyName="many", policyDocument=document)
    iot.create_policy(policyName=f"p-{n}", policyDocument=document)
    iot.attach_policy(policyName=f"p-{n}", target=hub)
    iot.attach_policy(policyName="many", target=many[n]["certificateArn"])
    iot.attach_thing_principal(thingName="many", principal=many[n]["certificateArn"])
    iot.create_thing(thingName=f"t-{n}")
    iot.attach_thing_principal(thingName=f"t-{n}", principal=hub)
    iot.create_thing_group(thingGroupName=f"g-{n}")
    iot.add_thing_to_thing_group(thingGroupName=f"g-{n}", thingName="many")
    iot.add_thing_to_thing_group(thingGroupName="all", thingName=f"t-{n}")
    iot.create_billing_group(billingGroupName=f"bg-{n}")
    iot.add_thing_to_billing_group(billingGroupName="bg-0", thingName=f"t-{n}")
    iot.create_thing_type(thingTypeName=f"tt-{n}")
    template = json.dumps({"Parameters": {}, "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "x"}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}}}})
    template = template.replace('"Parameters": {}', '"Parameters": {"AWS::IoT::Certificate::Id": {"Type": "String"}}')
    iot.create_provisioning_template(templateName=f"pt-{n}", templateBody=template, provisioningRoleArn=ROLE)
    iot.create_provisioning_template_version(templateName="pt-0", templateBody=template)
SIZES = ("maxResults", "pageSize")
for operation, most, arguments in (
    ("list_attached_policies", 3, dict(target=hub)), ("list_billing_groups", 4, {}), ("list_ca_certificates", 3, {}),
    ("list_certificates", 12, {}), ("list_certificates_by_ca", 3, dict(caCertificateId=cas[0]["certificateId"])),
    ("list_policies", 6, {}), ("list_policy_principals", 3, dict(policyName="many")),
    ("list_principal_policies", 4, dict(principal=hub)), ("list_principal_things", 4, dict(principal=hub)),
    ("list_principal_things_v2", 4, dict(principal=hub)), ("list_provisioning_templates", 3, {}),
    ("list_provisioning_template_versions", 4, dict(templateName="pt-0")), ("list_targets_for_policy", 3, dict(policyName="many")),
    ("list_thing_groups", 7, {}), ("list_thing_groups_for_thing", 3, dict(thingName="many")),
    ("list_thing_principals", 3, dict(thingName="many")), ("list_thing_principals_v2", 3, dict(thingName="many")),
    ("list_thing_registration_tasks", 2, {}), ("list_thing_types", 4, {}), ("list_things", 12, {}),
    ("list_things_in_billing_group", 3, dict(billingGroupName="bg-0")),
    ("list_things_in_thing_group", 3, dict(thingGroupName="all")),
):
    call, model = getattr(iot, operation), iot.meta.service_model.operation_model(iot.meta.method_to_api_mapping[operation])
    takes = model.input_shape.members
    [size] = [name for name in SIZES if name in takes]
    sent, got = ("marker", "nextMarker") if "marker" in takes else ("nextToken", "nextToken")
    listed = lambda answer: next(value for value in answer.values() if isinstance(value, list))
    whole, pages, more = listed(call(**arguments)), [], {}
    while True:
        answer = call(**arguments, **{size: 1}, **more)
        assert len(listed(answer)) == 1, (operation, answer)
        pages += listed(answer)
        if not answer.get(got):
            break
        more = {sent: answer[got]}
    assert pages == whole and len(pages) >= most, (operation, len(pages), len(whole))
    refused("InvalidRequestException", call, 400, **arguments, **{size: 1}, **{sent: "not-ours"})
    if takes[size].type_name == "integer":
        assert len(listed(call(**arguments, **{size: 250}))) == len(whole)

# Accounts and Regions side by side.
elsewhere = boto3.client("iot", region_name="us-east-1")
assert elsewhere.list_things()["things"] == []
thing = elsewhere.create_thing(thingName="pump-1")
assert thing["thingArn"] == "arn:aws:iot:us-east-1:123456789012:thing/pump-1", thing
other = boto3.client("iot", aws_access_key_id="210987654321", aws_secret_access_key="x")
thing = other.create_thing(thingName="pump-1")
assert thing["thingArn"] == "arn:aws:iot:eu-west-1:210987654321:thing/pump-1", thing
assert len(other.list_things()["things"]) == 1
assert other.get_registration_code()["registrationCode"] != iot.get_registration_code()["registrationCode"]
assert iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == "localhost"
assert elsewhere.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == (
    "123456789012-ats.iot.us-east-1.localhost")
# Without fleet indexing there are no dynamic groups, and clients are told so.
assert iot.get_indexing_configuration()["thingIndexingConfiguration"]["thingIndexingMode"] == "OFF"
assert iot.list_indices()["indexNames"] == []
iot.create_thing_group(thingGroupName="static")
dynamic = dict(thingGroupName="dynamic", queryString="attributes.model:x")
assert "fleet indexing is off" in refused("ResourceNotFoundException", iot.create_dynamic_thing_group, 404, **dynamic)
refused("ResourceAlreadyExistsException", iot.create_dynamic_thing_group, 409, **{**dynamic, "thingGroupName": "static"})
refused("InvalidRequestException", iot.create_dynamic_thing_group, 400, **{**dynamic, "thingGroupName": "a b"})
refused("ResourceNotFoundException", iot.update_dynamic_thing_group, 404, thingGroupName="dynamic", thingGroupProperties={})
refused("InvalidRequestException", iot.update_dynamic_thing_group, 400, thingGroupName="static", thingGroupProperties={})
iot.delete_dynamic_thing_group(thingGroupName="dynamic")
refused("InvalidRequestException", iot.delete_dynamic_thing_group, 400, thingGroupName="static")
refused("ResourceNotFoundException", iot.search_index, 404, queryString="*")
refused("ResourceNotFoundException", iot.describe_index, 404, indexName="AWS_Things")
iot.delete_thing_group(thingGroupName="static")

print("ok")
