// The sandbox's MQTT endpoint as MQTT.js meets it. Arguments: 3 or 5, the port, the files of the server
// CA, the certificate and the key, and the client id, which is the name of a device that is new: it is
// provisioned when it connects first. Prints `ok` at the end; fails by assertion.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const mqtt = require('mqtt');

const [version, port, ca, cert, key, id] = process.argv.slice(2);
const five = version === '5';
const WAIT = 10_000;

function client(clientId) {
  return mqtt.connect({
    protocol: 'mqtts', host: 'localhost', servername: 'localhost', port: Number(port),
    ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key),
    clientId, protocolVersion: five ? 5 : 4, keepalive: 30, reconnectPeriod: 0,
  });
}

// What happens first of these events.
function first(emitter, ...events) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`none of ${events} in time`)), WAIT);
    for (const event of events) {
      emitter.once(event, (...values) => {
        clearTimeout(timer);
        resolve([event, ...values]);
      });
    }
  });
}

async function connect(clientId) {
  const one = client(clientId);
  const errors = [];
  one.on('error', (error) => errors.push(error));
  const [event] = await first(one, 'connect', 'close');
  if (event === 'connect') return [one, errors];
  one.end(true);
  return [null, errors];
}

async function main() {
  assert.strictEqual((await connect(id))[0], null, 'let in before it is known');
  const deadline = Date.now() + 2 * WAIT;
  let one = null;
  while (one === null) {
    assert.ok(Date.now() < deadline, 'never let in');
    await new Promise((resolve) => setTimeout(resolve, 200));
    [one] = await connect(id);
  }
  const granted = await one.subscribeAsync(`devices/${id}/#`, { qos: 1 });
  assert.strictEqual(granted[0].qos, 1);
  const message = first(one, 'message');
  await one.publishAsync(`devices/${id}/t`, '21.5', { qos: 1 });
  const [, topic, payload] = await message;
  assert.deepStrictEqual([topic, payload.toString()], [`devices/${id}/t`, '21.5']);
  if (five) {
    await assert.rejects(one.publishAsync('devices/other/t', 'x', { qos: 1 }), (error) => error.code === 0x87);
    await assert.rejects(one.subscribeAsync('devices/other/#', { qos: 1 }));
  } else {
    const closed = first(one, 'close');
    one.publish('devices/other/t', 'x', { qos: 1 });
    await closed;
  }
  await one.endAsync(true);
  const [other, errors] = await connect('other');
  assert.strictEqual(other, null);
  // MQTT 5 is told, MQTT 3.1.1 is not.
  assert.deepStrictEqual(errors.map((error) => error.code), five ? [0x87] : []);
}

main().then(() => console.log('ok'), (error) => {
  console.error(error);
  process.exit(1);
});
