"""The sandbox's MQTT endpoint as paho-mqtt and the AWS IoT Device SDK for Python v2 meet it, in MQTT
3.1.1 and 5. Arguments: which client, the port, the HTTPS port, the server CA's file, a folder with
`pump.pem` and `pump.key`. The certificate may connect as `pump` and `pump-*`, and use `devices/pump/*`.
Prints `ok` at the end; fails by assertion."""

import concurrent.futures
import json
import queue
import ssl
import sys
import threading
import time
import urllib.request

WHICH, PORT, HTTPS, CA, FOLDER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
CERT, KEY = f"{FOLDER}/pump.pem", f"{FOLDER}/pump.key"
WAIT = 10


def paho(protocol, client_id="pump", clean=True, **connect):
    """A paho client, and a queue of what happens to it."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    happened = queue.Queue()
    more = {} if protocol == mqtt.MQTTv5 else {"clean_session": clean}
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False, **more)
    client.tls_set(ca_certs=CA, certfile=CERT, keyfile=KEY)
    client.on_connect = lambda c, u, flags, code, properties: happened.put(("connect", code.value, flags.session_present, properties))
    client.on_disconnect = lambda c, u, flags, code, properties: happened.put(("disconnect", code.value))
    client.on_message = lambda c, u, message: happened.put(("message", message.topic, message.payload, message))
    client.on_publish = lambda c, u, mid, code, properties: happened.put(("puback", code.value))
    client.on_subscribe = lambda c, u, mid, codes, properties: happened.put(("suback", [code.value for code in codes]))
    return client, happened, connect


def start(opened):
    client, happened, connect = opened
    client.connect("localhost", PORT, keepalive=30, **connect)
    client.loop_start()
    return client, happened


def expect(happened, kind):
    """The next event of this kind; others stay for later."""
    deadline = time.monotonic() + WAIT
    seen = []
    try:
        while True:
            event = happened.get(timeout=max(0.01, deadline - time.monotonic()))
            if event[0] == kind:
                return event
            seen.append(event)
    except queue.Empty:
        raise AssertionError(f"no {kind}, but {seen}") from None
    finally:
        with happened.mutex:
            happened.queue.extendleft(reversed(seen))


def stop(client):
    client.disconnect()
    client.loop_stop()


def paho_5():
    import paho.mqtt.client as mqtt
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.subscribeoptions import SubscribeOptions

    client, happened = start(paho(mqtt.MQTTv5))
    _, code, present, granted = expect(happened, "connect")
    assert (code, present) == (0, False)
    granted = granted.json()
    assert granted["ReceiveMaximum"] == 100 and granted["MaximumQoS"] == 1, granted
    assert granted["TopicAliasMaximum"] == 8 and granted["ServerKeepAlive"] == 30, granted
    assert granted["SubscriptionIdentifierAvailable"] == 0 and granted["MaximumPacketSize"] >= 131072, granted

    client.subscribe("devices/pump/#", qos=1)
    assert expect(happened, "suback")[1] == [1]
    sent = Properties(PacketTypes.PUBLISH)
    sent.ContentType, sent.ResponseTopic, sent.CorrelationData = "text/plain", "devices/pump/answer", b"\x00\xff"
    sent.UserProperty, sent.MessageExpiryInterval, sent.PayloadFormatIndicator = [("k", "v"), ("k", "w")], 60, 1
    client.publish("devices/pump/t", b"m", qos=1, properties=sent)
    assert expect(happened, "puback")[1] == 0
    heard = expect(happened, "message")[3].properties.json()
    assert heard["ContentType"] == "text/plain" and heard["ResponseTopic"] == "devices/pump/answer", heard
    assert heard["UserProperty"] == [("k", "v"), ("k", "w")] and heard["PayloadFormatIndicator"] == 1, heard
    assert heard["CorrelationData"] == "00ff" and 0 < heard["MessageExpiryInterval"] <= 60, heard

    client.publish("devices/other/t", b"m", qos=1)
    assert expect(happened, "puback")[1] == 0x87
    client.subscribe([("devices/pump/a", SubscribeOptions(qos=2)), ("devices/other/#", SubscribeOptions(qos=1))])
    assert expect(happened, "suback")[1] == [1, 0x87]
    client.publish("devices/other/t", b"m", qos=0)
    assert expect(happened, "disconnect")[1] == 0x87

    for publish, code in (({"qos": 2}, 0x9B), ({"topic": "x" * 300, "qos": 0}, 0x90)):
        client, happened = start(paho(mqtt.MQTTv5))
        assert expect(happened, "connect")[1] == 0
        client.publish(**{"topic": "devices/pump/t", "payload": b"m", **publish})
        assert expect(happened, "disconnect")[1] == code, publish

    client, happened = start(paho(mqtt.MQTTv5, client_id="other"))
    assert expect(happened, "connect")[1] == 0x87
    client, happened = start(paho(mqtt.MQTTv5, client_id=""))
    assert expect(happened, "connect")[1] == 0x87

    first, first_happened = start(paho(mqtt.MQTTv5))
    expect(first_happened, "connect")
    second, _ = start(paho(mqtt.MQTTv5))
    assert expect(first_happened, "disconnect")[1] == 0x8E
    stop(second)

    keep = Properties(PacketTypes.CONNECT)
    keep.SessionExpiryInterval = 86400
    again = lambda: start(paho(mqtt.MQTTv5, clean_start=False, properties=keep))
    client, happened = again()
    granted = expect(happened, "connect")[3].json()
    assert granted["SessionExpiryInterval"] == 3600, granted
    session(client, happened, again)


def session(client, happened, again):
    """A session that is kept gets what it missed; retained messages; a will."""
    import paho.mqtt.client as mqtt

    client.subscribe("devices/pump/missed", qos=1)
    expect(happened, "suback")
    stop(client)
    other, other_happened = start(paho(mqtt.MQTTv5, client_id="pump-2"))
    expect(other_happened, "connect")
    other.publish("devices/pump/missed", b"late", qos=1)
    other.publish("devices/pump/kept", b"state", qos=1, retain=True)
    expect(other_happened, "puback")
    expect(other_happened, "puback")
    client, happened = again()
    assert expect(happened, "connect")[2], "no session"
    assert expect(happened, "message")[1:3] == ("devices/pump/missed", b"late")
    client.subscribe("devices/pump/kept", qos=1)
    message = expect(happened, "message")[3]
    assert message.retain and message.payload == b"state"
    other.subscribe("devices/pump/will", qos=1)
    expect(other_happened, "suback")
    client.disconnect()
    dying = paho(mqtt.MQTTv5, client_id="pump-3")
    dying[0].will_set("devices/pump/will", b"gone", qos=1)
    client, happened = start(dying)
    expect(happened, "connect")
    client.socket().close()
    assert expect(other_happened, "message")[1:3] == ("devices/pump/will", b"gone")
    stop(other)


def paho_3():
    import paho.mqtt.client as mqtt

    client, happened = start(paho(mqtt.MQTTv311))
    assert expect(happened, "connect")[1] == 0
    client.subscribe("devices/pump/#", qos=1)
    assert expect(happened, "suback")[1] == [1]
    client.publish("devices/pump/t", b"m", qos=1)
    assert expect(happened, "message")[1:3] == ("devices/pump/t", b"m")
    client.publish("devices/other/t", b"m", qos=1)
    assert expect(happened, "disconnect")[1] != 0
    client, happened = start(paho(mqtt.MQTTv311))
    expect(happened, "connect")
    client.subscribe("devices/other/#", qos=1)
    assert expect(happened, "disconnect")[1] != 0
    # Closed without a CONNACK.
    client, happened = start(paho(mqtt.MQTTv311, client_id="other"))
    kinds = {expect_any(happened)}
    assert kinds == {"disconnect"} or kinds == {"connect"}, kinds
    again = lambda: start(paho(mqtt.MQTTv311, clean=False))
    client, happened = again()
    expect(happened, "connect")
    session(client, happened, again)


def expect_any(happened):
    return happened.get(timeout=WAIT)[0]


def crt_5():
    from awscrt import mqtt5
    from awsiot import mqtt5_client_builder

    def connect(client_id):
        connected, failed, messages = concurrent.futures.Future(), concurrent.futures.Future(), queue.Queue()
        client = mqtt5_client_builder.mtls_from_path(
            endpoint="localhost", port=PORT, cert_filepath=CERT, pri_key_filepath=KEY, ca_filepath=CA, client_id=client_id,
            on_lifecycle_connection_success=lambda data: connected.done() or connected.set_result(data),
            on_lifecycle_connection_failure=lambda data: failed.done() or failed.set_result(data),
            on_publish_received=lambda data: messages.put(data.publish_packet),
        )
        client.start()
        return client, connected, failed, messages

    client, connected, _, messages = connect("pump")
    settings = connected.result(WAIT).negotiated_settings
    assert settings.maximum_qos == mqtt5.QoS.AT_LEAST_ONCE and settings.receive_maximum_from_server == 100, vars(settings)
    subscribe = lambda text: client.subscribe(mqtt5.SubscribePacket([mqtt5.Subscription(text, mqtt5.QoS.AT_LEAST_ONCE)])).result(WAIT)
    publish = lambda topic: client.publish(mqtt5.PublishPacket(topic=topic, payload=b"m", qos=mqtt5.QoS.AT_LEAST_ONCE)).result(WAIT)
    assert subscribe("devices/pump/#").reason_codes == [mqtt5.SubackReasonCode.GRANTED_QOS_1]
    assert publish("devices/pump/t").puback.reason_code == mqtt5.PubackReasonCode.SUCCESS
    assert messages.get(timeout=WAIT).payload == b"m"
    assert publish("devices/other/t").puback.reason_code == mqtt5.PubackReasonCode.NOT_AUTHORIZED
    assert subscribe("devices/other/#").reason_codes == [mqtt5.SubackReasonCode.NOT_AUTHORIZED]
    client.stop()
    client, _, failed, _ = connect("other")
    refused = failed.result(WAIT).connack_packet
    assert refused.reason_code == mqtt5.ConnectReasonCode.NOT_AUTHORIZED, refused
    client.stop()


def crt_3():
    from awscrt.mqtt import QoS
    from awsiot import mqtt_connection_builder

    def connect(client_id, **more):
        return mqtt_connection_builder.mtls_from_path(
            endpoint="localhost", port=PORT, cert_filepath=CERT, pri_key_filepath=KEY, ca_filepath=CA, client_id=client_id,
            clean_session=True, **more,
        )

    interrupted = threading.Event()
    connection = connect("pump", on_connection_interrupted=lambda **_: interrupted.set())
    connection.connect().result(WAIT)
    messages = queue.Queue()
    connection.subscribe("devices/pump/#", QoS.AT_LEAST_ONCE, lambda topic, payload, **_: messages.put(payload))[0].result(WAIT)
    connection.publish("devices/pump/t", b"m", QoS.AT_LEAST_ONCE)[0].result(WAIT)
    assert messages.get(timeout=WAIT) == b"m"
    connection.publish("devices/other/t", b"m", QoS.AT_MOST_ONCE)
    assert interrupted.wait(WAIT)
    connection.disconnect()
    try:
        connect("other").connect().result(WAIT)
    except Exception as error:
        assert "HANGUP" in str(error), error
    else:
        raise AssertionError("another client id got in")


def https():
    def post(path, alpn):
        context = ssl.create_default_context(cafile=CA)
        context.load_cert_chain(CERT, KEY)
        context.set_alpn_protocols([alpn or "http/1.1"])
        request = urllib.request.Request(f"https://localhost:{HTTPS}{path}", data=b"over https", method="POST")
        try:
            with urllib.request.urlopen(request, context=context, timeout=WAIT) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    import paho.mqtt.client as mqtt

    client, happened, _ = paho(mqtt.MQTTv5)
    context = ssl.create_default_context(cafile=CA)
    context.load_cert_chain(CERT, KEY)
    context.set_alpn_protocols(["x-amzn-mqtt-ca"])
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="pump", protocol=mqtt.MQTTv5)
    client.tls_set_context(context)
    client.on_message = lambda c, u, message: happened.put(("message", message.topic, message.payload))
    client.on_subscribe = lambda c, u, mid, codes, properties: happened.put(("suback", codes))
    client.on_connect = lambda c, *_: c.subscribe("devices/pump/#", qos=1)
    client.connect("localhost", HTTPS)
    client.loop_start()
    expect(happened, "suback")
    for alpn in ("x-amzn-http-ca", None):
        status, body = post("/topics/devices%2Fpump%2Ft?qos=1", alpn)
        assert (status, body["message"]) == (200, "OK") and body["traceId"], body
        assert expect(happened, "message")[1:3] == ("devices/pump/t", b"over https")
    status, body = post("/topics/devices/other/t?qos=1", "x-amzn-http-ca")
    assert (status, body["message"]) == (403, "Forbidden"), body
    assert post("/topics/$aws/events/x", None)[0] == 400
    assert post("/things/x", None)[0] == 404
    stop(client)


{"paho-5": paho_5, "paho-3": paho_3, "crt-5": crt_5, "crt-3": crt_3, "https": https}[WHICH]()
print("ok")
