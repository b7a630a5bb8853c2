//! The sandbox's control plane, driven by the real AWS CLI and boto3.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nameplate::core::ids::Place;
use nameplate::core::template::shipped;
use nameplate::effects::clock::SystemClock;
use nameplate::effects::entropy::OsEntropy;
use nameplate::sandbox::server::{Server, ServerConfig, StatePlace};
use serde_json::Value;

const ROLE: &str = "arn:aws:iam::123456789012:role/Provisioning";

fn place() -> Place {
    Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    }
}

/// A control plane on an ephemeral port, for as long as the test process lives.
pub(crate) fn serve(state: StatePlace) -> String {
    let entropy = Arc::new(OsEntropy::default());
    let config = ServerConfig::new(state, place(), Arc::new(SystemClock), entropy);
    let running = Server::start(config).unwrap();
    let url = running.control_url().to_owned();
    std::mem::forget(running);
    url
}

/// A program of the tests' virtual environment.
pub(crate) fn venv(program: &str) -> PathBuf {
    let root = std::env::var_os("NAMEPLATE_TEST_VENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".nameplate-test/venv"),
        PathBuf::from,
    );
    let path = root.join("bin").join(program);
    assert!(
        path.exists(),
        "{} is missing: scripts/test makes it",
        path.display()
    );
    path
}

pub(crate) fn command(program: &str, url: &str) -> Command {
    let mut command = Command::new(venv(program));
    command
        .env("AWS_ENDPOINT_URL_IOT", url)
        .env("AWS_ACCESS_KEY_ID", "sandbox")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox")
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_PAGER", "");
    command
}

/// The words of a command line, `@` standing for the next of `values`.
fn words(line: &str, values: &[&str]) -> Vec<String> {
    let mut values = values.iter();
    line.split(' ')
        .map(|word| {
            if word == "@" {
                values.next().unwrap()
            } else {
                word
            }
        })
        .map(str::to_owned)
        .collect()
}

/// `aws iot …`: the JSON that it prints.
pub(crate) fn aws(url: &str, line: &str, values: &[&str]) -> Value {
    let output = command("aws", url)
        .args(["iot", "--output", "json"])
        .args(words(line, values))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "aws iot {line}: {stderr}");
    if output.stdout.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `aws iot …` that must fail: what it says.
fn aws_fails(url: &str, line: &str, values: &[&str]) -> String {
    let output = command("aws", url)
        .arg("iot")
        .args(words(line, values))
        .output()
        .unwrap();
    assert!(!output.status.success(), "aws iot {line} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl")
        .args(line.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {line}: {stderr}");
}

/// A CA, and a leaf of it with this CN: `ca.pem`, `{name}.pem`.
fn make_ca(folder: &Path) {
    openssl(
        folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=Root",
    );
}

fn make_leaf(folder: &Path, name: &str, cn: &str) {
    openssl(
        folder,
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={cn}"
        ),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -out {name}.pem"
        ),
    );
}

fn file(folder: &Path, name: &str) -> String {
    format!("file://{}", folder.join(name).display())
}

#[test]
fn the_aws_cli_registers_a_ca_with_its_template() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let url = serve(StatePlace::Durable(folder.join("state")));
    make_ca(folder);
    let code = aws(&url, "get-registration-code", &[])["registrationCode"].clone();
    make_leaf(folder, "proof", code.as_str().unwrap());

    let policy = shipped()[0].policy_for(&place()).unwrap();
    let create = "create-policy --policy-name pump --policy-document @";
    aws(&url, create, &[&policy]);
    let body = shipped()[0].body_for(&place(), &"pump".parse().unwrap());
    let create = "create-provisioning-template --template-name pumps --type JITP --enabled \
                  --provisioning-role-arn @ --template-body @";
    let made = aws(&url, create, &[ROLE, &body]);
    assert_eq!(made["defaultVersionId"], 1);

    let pems = [&file(folder, "ca.pem")[..], &file(folder, "proof.pem")];
    let register = "register-ca-certificate --ca-certificate @ --verification-certificate @ \
                    --set-as-active --allow-auto-registration \
                    --registration-config templateName=pumps";
    let made = aws(&url, register, &pems);
    let id = made["certificateId"].as_str().unwrap();
    let again = aws_fails(&url, register, &pems);
    assert!(again.contains("ResourceAlreadyExistsException"), "{again}");

    let described = aws(&url, "describe-ca-certificate --certificate-id @", &[id]);
    let description = &described["certificateDescription"];
    assert_eq!(description["status"], "ACTIVE");
    assert_eq!(description["autoRegistrationStatus"], "ENABLE");
    assert_eq!(description["certificateMode"], "DEFAULT");
    assert!(description["validity"]["notAfter"].as_f64().unwrap() > 1.7e9);
    assert_eq!(described["registrationConfig"]["templateName"], "pumps");
    let of_template = aws(&url, "list-ca-certificates --template-name pumps", &[]);
    assert_eq!(of_template["certificates"][0]["certificateId"], id);

    let update = "update-ca-certificate --new-status INACTIVE --certificate-id @";
    aws(&url, update, &[id]);
    aws(&url, "delete-ca-certificate --certificate-id @", &[id]);
    let gone = aws_fails(&url, "describe-ca-certificate --certificate-id @", &[id]);
    assert!(gone.contains("ResourceNotFoundException"), "{gone}");
}

#[test]
fn the_aws_cli_is_told_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let url = serve(StatePlace::Memory);
    make_ca(folder);
    make_leaf(folder, "leaf", "pump-1");
    let (ca, leaf) = (&file(folder, "ca.pem")[..], &file(folder, "leaf.pem")[..]);
    let cases: [(&str, &[&str], &str); 6] = [
        (
            "describe-thing --thing-name nobody",
            &[],
            "ResourceNotFoundException",
        ),
        (
            "register-ca-certificate --ca-certificate @ --verification-certificate @",
            &[ca, leaf],
            "RegistrationCodeValidationException",
        ),
        (
            "register-ca-certificate --ca-certificate @ --certificate-mode SNI_ONLY",
            &[leaf],
            "basicConstraints extension as true",
        ),
        (
            "register-certificate --certificate-pem @",
            &[leaf],
            "CertificateValidationException",
        ),
        (
            "create-provisioning-template --template-name t --type JITP \
             --provisioning-role-arn @ --template-body @",
            &[ROLE, r#"{"Resources":{}}"#],
            "InvalidRequestException",
        ),
        ("list-jobs", &[], "the sandbox does not speak `GET /jobs`"),
    ];
    for (line, values, wanted) in cases {
        let said = aws_fails(&url, line, values);
        assert!(said.contains(wanted), "{line}: {said}");
    }
}

/// What boto3 does with things, certificates and policies; fails by assertion.
const BOTO3: &str = r#"
import sys, boto3
from botocore.exceptions import ClientError
folder = sys.argv[1]
iot = boto3.client("iot")
read = lambda name: open(f"{folder}/{name}.pem").read()
def refused(name, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == name, error
        return error.response
    raise AssertionError(f"{call} was not refused")

ca = iot.register_ca_certificate(caCertificate=read("ca"), certificateMode="SNI_ONLY", setAsActive=True)
leaf = iot.register_certificate(certificatePem=read("leaf"), caCertificatePem=read("ca"), status="ACTIVE")
arn, id = leaf["certificateArn"], leaf["certificateId"]
twice = refused("ResourceAlreadyExistsException", iot.register_certificate, certificatePem=read("leaf"))
assert (twice["resourceId"], twice["resourceArn"]) == (id, arn), twice
assert twice["ResponseMetadata"]["HTTPStatusCode"] == 409
assert twice["ResponseMetadata"]["RequestId"]
described = iot.describe_certificate(certificateId=id)["certificateDescription"]
assert described["caCertificateId"] == ca["certificateId"]
assert described["certificateMode"] == "SNI_ONLY"
assert described["creationDate"].year >= 2024, described
by_ca = iot.list_certificates_by_ca(caCertificateId=ca["certificateId"])["certificates"]
assert [one["certificateId"] for one in by_ca] == [id]

document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}'
assert iot.create_policy(policyName="p", policyDocument=document)["policyVersionId"] == "1"
iot.attach_policy(policyName="p", target=arn)
iot.attach_policy(policyName="p", target=arn)
assert [p["policyName"] for p in iot.list_attached_policies(target=arn)["policies"]] == ["p"]
assert iot.list_targets_for_policy(policyName="p")["targets"] == [arn]
assert iot.get_effective_policies(principal=arn)["effectivePolicies"][0]["policyDocument"] == document
refused("DeleteConflictException", iot.delete_policy, policyName="p")
made = iot.create_policy_version(policyName="p", policyDocument=document, setAsDefault=True)
assert (made["policyVersionId"], made["isDefaultVersion"]) == ("2", True)
assert iot.get_policy(policyName="p")["defaultVersionId"] == "2"
refused("DeleteConflictException", iot.delete_policy_version, policyName="p", policyVersionId="2")
iot.set_default_policy_version(policyName="p", policyVersionId="1")
iot.delete_policy_version(policyName="p", policyVersionId="2")
assert [v["versionId"] for v in iot.list_policy_versions(policyName="p")["policyVersions"]] == ["1"]

iot.create_thing_type(thingTypeName="pump")
iot.create_thing_group(thingGroupName="site")
for n in range(30):
    iot.create_thing(thingName=f"pump-{n:02}", thingTypeName="pump", attributePayload={"attributes": {"n": str(n)}})
first = iot.list_things()
assert len(first["things"]) == 25 and first["nextToken"]
names = [t["thingName"] for page in iot.get_paginator("list_things").paginate() for t in page["things"]]
assert names == [f"pump-{n:02}" for n in range(30)], names
assert [t["thingName"] for t in iot.list_things(attributeName="n", attributeValue="7")["things"]] == ["pump-07"]
refused("ResourceAlreadyExistsException", iot.create_thing, thingName="pump-00")
refused("VersionConflictException", iot.update_thing, thingName="pump-00", expectedVersion=9)
iot.update_thing(thingName="pump-00", attributePayload={"attributes": {"n": "", "m": "1"}, "merge": True})
thing = iot.describe_thing(thingName="pump-00")
assert (thing["version"], thing["attributes"], thing["defaultClientId"]) == (2, {"m": "1"}, "pump-00")
iot.add_thing_to_thing_group(thingName="pump-00", thingGroupName="site")
assert iot.list_things_in_thing_group(thingGroupName="site")["things"] == ["pump-00"]

iot.attach_thing_principal(thingName="pump-00", principal=arn, thingPrincipalType="EXCLUSIVE_THING")
refused("InvalidRequestException", iot.attach_thing_principal, thingName="pump-01", principal=arn)
assert iot.list_thing_principals(thingName="pump-00")["principals"] == [arn]
assert iot.list_principal_things(principal=arn)["things"] == ["pump-00"]
assert iot.list_thing_principals_v2(thingName="pump-00")["thingPrincipalObjects"] == [
    {"principal": arn, "thingPrincipalType": "EXCLUSIVE_THING"}]
assert iot.list_principal_things_v2(principal=arn)["principalThingObjects"] == [
    {"thingName": "pump-00", "thingPrincipalType": "EXCLUSIVE_THING"}]

status = refused("CertificateStateException", iot.delete_certificate, certificateId=id)
assert status["ResponseMetadata"]["HTTPStatusCode"] == 406
iot.update_certificate(certificateId=id, newStatus="INACTIVE")
refused("DeleteConflictException", iot.delete_certificate, certificateId=id, forceDelete=True)
iot.detach_thing_principal(thingName="pump-00", principal=arn)
iot.delete_thing(thingName="pump-00")
refused("DeleteConflictException", iot.delete_certificate, certificateId=id)
iot.detach_policy(policyName="p", target=arn)
iot.delete_certificate(certificateId=id)
iot.delete_policy(policyName="p")
assert iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == "localhost"
"#;

#[test]
fn boto3_finds_the_answers_it_expects() {
    let folder = tempfile::tempdir().unwrap();
    make_ca(folder.path());
    make_leaf(folder.path(), "leaf", "pump-1");
    let url = serve(StatePlace::Memory);
    let output = command("python3", &url)
        .args(["-c", BOTO3])
        .arg(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

#[test]
fn a_request_without_a_signature_is_turned_away() {
    use std::io::{Read, Write};
    let url = serve(StatePlace::Memory);
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream
        .write_all(b"GET /things HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.contains("MissingAuthenticationTokenException"),
        "{answer}"
    );
}
