//! The control plane's larger half, driven by boto3 and the AWS CLI: registration tasks, groups, tags,
//! authorization; accounts and Regions, signatures, quotas, and the logs.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use nameplate::core::ids::Place;
use nameplate::effects::clock::SystemClock;
use nameplate::effects::entropy::OsEntropy;
use nameplate::sandbox::bulk::Buckets;
use nameplate::sandbox::server::{Running, Server, ServerConfig, StatePlace};

use super::sandbox_rest::{command, venv};

fn start(folder: &Path, change: impl FnOnce(&mut ServerConfig)) -> Running {
    let place = Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    };
    let state = StatePlace::Durable(folder.join("state"));
    let entropy = Arc::new(OsEntropy::default());
    let mut config = ServerConfig::new(state, place, Arc::new(SystemClock), entropy);
    change(&mut config);
    Server::start(config).unwrap()
}

fn python(url: &str, script: &str) -> Output {
    command("python3", url)
        .args(["-c", script])
        .output()
        .unwrap()
}

fn went_well(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn boto3_runs_the_whole_control_plane() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = folder.path().join("s3");
    std::fs::create_dir_all(s3.join("bulk")).unwrap();
    let running = start(folder.path(), |config| {
        config.buckets = Buckets::Folder(s3.clone());
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/control_plane.py");
    let output = command("python3", running.control_url())
        .arg(script)
        .arg(&s3)
        .output()
        .unwrap();
    assert_eq!(went_well(&output), "ok");
    let url = running.control_url().to_owned();
    running.stop();
    // What other accounts and Regions have outlives the process, too.
    let running = start(folder.path(), |_| {});
    assert_ne!(url, running.control_url());
    let things = "import boto3\n\
                  print(boto3.client('iot', region_name='us-east-1').list_things()['things'][0]['thingName'],\n\
                  len(boto3.client('iot', region_name='ap-south-1').list_things()['things']))";
    let output = python(running.control_url(), things);
    assert_eq!(went_well(&output), "pump-1 0");
}

#[test]
fn a_task_reads_its_input_over_http() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bucket")).unwrap();
    std::fs::write(
        folder.path().join("bucket/in.json"),
        "{\"Name\":\"web-1\"}\n{\"Name\":\"web-2\"}\n",
    )
    .unwrap();
    let mut server = Command::new(venv("python3"))
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = server.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    let url = line.split(['(', ')']).nth(1).unwrap();
    let running = start(folder.path(), |config| {
        config.buckets = url.trim_end_matches('/').parse().unwrap();
    });
    let script = r#"
import boto3, time
iot = boto3.client("iot")
body = '{"Parameters":{"Name":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"}}}}}'
task = iot.start_thing_registration_task(templateBody=body, inputFileBucket="bucket", inputFileKey="in.json",
    roleArn="arn:aws:iam::123456789012:role/Bulk")["taskId"]
while iot.describe_thing_registration_task(taskId=task)["status"] == "InProgress": time.sleep(0.05)
about = iot.describe_thing_registration_task(taskId=task)
print(about["status"], about.get("message", ""), len(iot.list_things()["things"]))
"#;
    let output = python(running.control_url(), script);
    let said = went_well(&output);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(said, "Completed  2");
}

#[test]
fn quotas_throttle_as_aws_does_and_the_cli_gets_through() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), |config| config.quotas = true);
    let script = r#"
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
once = boto3.client("iot", config=Config(retries={"total_max_attempts": 1}))
codes = set()
for _ in range(40):
    try:
        once.list_policies()
    except ClientError as error:
        codes.add((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]))
assert codes == {("ThrottlingException", 400)}, codes
patient = boto3.client("iot", config=Config(retries={"mode": "adaptive", "total_max_attempts": 20}))
for _ in range(25):
    patient.list_policies()
boto3.client("iot", region_name="us-east-1").list_policies()
print("ok")
"#;
    assert_eq!(went_well(&python(running.control_url(), script)), "ok");
}

const KEYS: &str = "[default]\naws_access_key_id = AKIAEXAMPLE1\naws_secret_access_key = s3cret/+=\n\
                    [other]\naws_access_key_id = AKIAEXAMPLE2\naws_secret_access_key = two\n\
                    aws_session_token = t0ken\naws_account_id = 210987654321\n";

fn run_known(folder: &Path, script: &str) -> Output {
    let keys = folder.join("credentials");
    std::fs::write(&keys, KEYS).unwrap();
    Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(["sandbox", "run", "--auth", "known", "--credentials"])
        .arg(&keys)
        .arg("--")
        .arg(venv("python3"))
        .args(["-c", script])
        .current_dir(folder)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("PYTHON", venv("python3"))
        .output()
        .unwrap()
}

#[test]
fn known_credentials_are_really_checked() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import boto3, os, subprocess
from botocore.exceptions import ClientError
def code(**more):
    try:
        boto3.client("iot", **more).list_things()
        return "ok"
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error
        return error.response["Error"]["Code"]
# Paths with escapes, queries, bodies and headers of every kind are signed.
iot = boto3.client("iot")
made = iot.create_keys_and_certificate(setAsActive=True)
iot.create_thing(thingName="a:b", attributePayload={"attributes": {"k": "v"}})
iot.attach_thing_principal(thingName="a:b", principal=made["certificateArn"])
document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}'
iot.create_policy(policyName="p+=,.@-x", policyDocument=document)
iot.attach_policy(policyName="p+=,.@-x", target=made["certificateArn"])
assert len(iot.list_attached_policies(target=made["certificateArn"], recursive=True, pageSize=5)["policies"]) == 1
assert iot.list_things(attributeName="k", attributeValue="v")["things"][0]["thingName"] == "a:b"
assert code(aws_access_key_id="AKIAEXAMPLE1", aws_secret_access_key="wrong") == "InvalidSignatureException"
assert code(aws_access_key_id="AKIAEXAMPLE9", aws_secret_access_key="x") == "UnrecognizedClientException"
assert code(aws_access_key_id="AKIAEXAMPLE2", aws_secret_access_key="two") == "UnrecognizedClientException"
other = dict(aws_access_key_id="AKIAEXAMPLE2", aws_secret_access_key="two", aws_session_token="t0ken")
assert code(**other) == "ok"
arn = boto3.client("iot", **other).create_thing(thingName="x")["thingArn"]
assert ":210987654321:" in arn, arn
cli = [os.path.join(os.path.dirname(os.environ["PYTHON"]), "aws"), "iot", "describe-thing", "--thing-name", "a:b"]
assert subprocess.run(cli, stdout=subprocess.DEVNULL).returncode == 0
"#;
    let output = run_known(folder.path(), script);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let output = Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(["sandbox", "run", "--auth", "known", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_logs_are_found_by_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import boto3, json, os, ssl, time
from botocore.exceptions import ClientError
logs = boto3.client("logs")
context = ssl.create_default_context(cafile=os.environ["NAMEPLATE_SERVER_CA"])
import socket
host, port = os.environ["NAMEPLATE_MQTT_HOST"], int(os.environ["NAMEPLATE_MQTT_PORT"])
for _ in range(3):
    try:
        with socket.create_connection((host, port)) as tcp, context.wrap_socket(tcp, server_hostname=host) as tls:
            tls.recv(1)
    except OSError:
        pass
def find(pattern, **more):
    return logs.filter_log_events(logGroupName="AWSIotLogsV2", filterPattern=pattern, **more)
for _ in range(100):
    events = find('{ $.reason = "TLS_FAILURE" }')["events"]
    if len(events) == 3: break
    time.sleep(0.05)
assert len(events) == 3, events
record = json.loads(events[0]["message"])
assert record["reason"] == "TLS_FAILURE" and record["logLevel"] == "ERROR", record
assert abs(events[0]["timestamp"] / 1000 - time.time()) < 60
assert find('{ $.reason = "NOTHING" }')["events"] == []
first = find("{ $.reason = TLS* }", limit=2)
assert len(first["events"]) == 2 and len(find("{ $.reason = TLS* }", limit=2, nextToken=first["nextToken"])["events"]) == 1
pages = logs.get_paginator("filter_log_events").paginate(logGroupName="AWSIotLogsV2", filterPattern="TLS_FAILURE")
assert len([e for page in pages for e in page["events"]]) == 3
assert find("", startTime=int(time.time() * 1000) + 60000)["events"] == []
for name, arguments in (("InvalidParameterException", dict(logGroupName="AWSIotLogsV2", filterPattern="{ $.a")),
                        ("ResourceNotFoundException", dict(logGroupName="other"))):
    try:
        logs.filter_log_events(**arguments)
        raise AssertionError(name)
    except ClientError as error:
        assert error.response["Error"]["Code"] == name, error
print("ok")
"#;
    let output = Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(["sandbox", "run", "--"])
        .arg(venv("python3"))
        .args(["-c", script])
        .current_dir(folder.path())
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap();
    assert_eq!(went_well(&output), "ok");
}

/// Both files of records are searched, whatever was before this process, a page at a time.
#[test]
fn filter_log_events_searches_all_that_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    // 30 000 records, one a second from 2026-01-01T00:00:00Z; the last one is cut off.
    let line = |n: usize| {
        let at = format!(
            "2026-01-01 {:02}:{:02}:{:02}.000",
            n / 3600,
            n / 60 % 60,
            n % 60
        );
        let (level, event) = match n % 10 {
            0 => ("ERROR", "Connect"),
            5 => ("ERROR", "ControlPlane"),
            _ => ("INFO", "Connect"),
        };
        format!(
            "{{\"timestamp\":\"{at}\",\"logLevel\":\"{level}\",\"traceId\":\"{n:08x}-0000-4000-8000-000000000000\",\
             \"accountId\":\"123456789012\",\"status\":\"Success\",\"eventType\":\"{event}\",\"sourcePort\":{n}}}\n"
        )
    };
    let lines: Vec<String> = (0..30_000).map(line).collect();
    std::fs::write(state.join("logs.old.ndjson"), lines[..20_000].concat()).unwrap();
    let cut = lines[20_000..].concat();
    std::fs::write(state.join("logs.ndjson"), cut.trim_end_matches("}\n")).unwrap();
    let running = start(folder.path(), |_| {});
    let script = r#"
import boto3, json
from botocore.exceptions import ClientError
logs = boto3.client("logs")
def find(**more):
    return logs.filter_log_events(logGroupName="AWSIotLogsV2", **more)
def pages(**more):
    return [e for page in logs.get_paginator("filter_log_events").paginate(logGroupName="AWSIotLogsV2", **more)
            for e in page["events"]]
port = lambda event: json.loads(event["message"])["sourcePort"]
first = find()
assert len(first["events"]) <= 10000 and sum(len(e["message"]) for e in first["events"]) < (1 << 20) + 1000
everything = pages()
# The control plane's own records are not AWS IoT's; the line that is cut off is none yet.
assert [port(e) for e in everything] == [n for n in range(29999) if n % 10 != 5], len(everything)
assert len({e["eventId"] for e in everything}) == len(everything)
assert [port(e) for e in pages(filterPattern='{ $.logLevel = "ERROR" }')] == list(range(0, 29999, 10))
begin = 1767225600000
window = pages(startTime=begin + 19_990_000, endTime=begin + 20_010_000, filterPattern="ERROR", PaginationConfig={"PageSize": 1})
assert [(port(e), e["timestamp"] - begin) for e in window] == [(n, n * 1000) for n in (19990, 20000, 20010)], window
assert find(startTime=begin + 40_000_000)["events"] == []
page = find(limit=3, filterPattern="{ $.sourcePort >= 19999 }")
assert [port(e) for e in page["events"]] == [19999, 20000, 20001] and page["nextToken"]
elsewhere = boto3.client("logs", region_name="us-east-1")
assert elsewhere.filter_log_events(logGroupName="AWSIotLogsV2")["events"] == []
for arguments in (dict(limit=10001), dict(nextToken="x"), dict(startTime=2, endTime=1), dict(filterPattern="{ $.a")):
    try:
        find(**arguments)
        raise AssertionError(arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InvalidParameterException", error
print("ok")
"#;
    let output = command("python3", running.control_url())
        .args(["-c", script])
        .env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", running.control_url())
        .output()
        .unwrap();
    assert_eq!(went_well(&output), "ok");
}

#[test]
fn programs_publish_read_what_is_retained_and_end_connections() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import boto3, os, json, time
from concurrent.futures import Future
import paho.mqtt.client as mqtt
from botocore.exceptions import ClientError
iot, data = boto3.client("iot"), boto3.client("iot-data")
def refused(name, status, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert found == (name, status), error
        return
    raise AssertionError(name)
made = iot.create_keys_and_certificate(setAsActive=True)
iot.create_policy(policyName="p", policyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}')
iot.attach_policy(policyName="p", target=made["certificateArn"])
iot.create_thing(thingName="pump-1")
open("d.pem", "w").write(made["certificatePem"]); open("d.key", "w").write(made["keyPair"]["PrivateKey"])
assert iot.get_thing_connectivity_data(thingName="pump-1") ["connected"] is False
refused("ResourceNotFoundException", 404, iot.get_thing_connectivity_data, thingName="nobody")
got, ready, gone = Future(), Future(), Future()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "pump-1", protocol=mqtt.MQTTv5)
client.tls_set(os.environ["NAMEPLATE_SERVER_CA"], "d.pem", "d.key")
client.on_connect = lambda c, *_: c.subscribe("a/#", 1)
client.on_subscribe = lambda *_: ready.done() or ready.set_result(1)
client.on_message = lambda _c, _d, m: got.set_result(m)
client.on_disconnect = lambda *_: gone.done() or gone.set_result(1)
client.connect(os.environ["NAMEPLATE_MQTT_HOST"], int(os.environ["NAMEPLATE_MQTT_PORT"]))
client.loop_start()
ready.result(10)
about = iot.get_thing_connectivity_data(thingName="pump-1")
assert about["connected"] and "disconnectReason" not in about and abs(about["timestamp"].timestamp() - time.time()) < 60, about
data.publish(topic="a/b c/ü", qos=1, payload=b"\x00\xff", retain=True, contentType="x/y",
             userProperties=[{"k": "v"}], payloadFormatIndicator="UNSPECIFIED_BYTES")
message = got.result(10)
assert (message.topic, message.payload) == ("a/b c/ü", b"\x00\xff"), (message.topic, message.payload)
assert message.properties.ContentType == "x/y" and message.properties.UserProperty == [("k", "v")]
kept = data.get_retained_message(topic="a/b c/ü")
assert kept["payload"] == b"\x00\xff" and kept["qos"] == 1 and json.loads(kept["userProperties"]) == [{"k": "v"}], kept
assert abs(kept["lastModifiedTime"] / 1000 - time.time()) < 60
for n in range(3):
    data.publish(topic=f"r/{n}", payload=b"x", retain=True)
pages = boto3.client("iot-data").get_paginator("list_retained_messages").paginate(PaginationConfig={"PageSize": 2})
topics = [one["topic"] for page in pages for one in page["retainedTopics"]]
assert topics == ["a/b c/ü", "r/0", "r/1", "r/2"], topics
data.publish(topic="r/0", payload=b"", retain=True)
refused("ResourceNotFoundException", 404, data.get_retained_message, topic="r/0")
for topic in ("a/#", "$aws/events/presence/connected/x", "a/" * 8 + "a"):
    refused("InvalidRequestException", 400, data.publish, topic=topic, payload=b"")
refused("InvalidRequestException", 400, data.publish, topic="a", qos=2, payload=b"")
refused("InvalidRequestException", 400, data.publish, topic="a", payload=b"x" * (128 * 1024 + 1))
refused("ResourceNotFoundException", 404, data.delete_connection, clientId="nobody")
client.on_connect = None
data.delete_connection(clientId="pump-1", cleanSession=True, preventWillMessage=True)
gone.result(10)
client.loop_stop()
about = iot.get_thing_connectivity_data(thingName="pump-1")
print("ok")
"#;
    let output = Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(["sandbox", "run", "--"])
        .arg(venv("python3"))
        .args(["-c", script])
        .current_dir(folder.path())
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap();
    assert_eq!(went_well(&output), "ok");
}
