// An MQTT.js client that is driven from outside: one order a line on standard input, one answer a line on standard output,
// and between the answers one line for each message that arrives. Binary values are base64.
'use strict';

const readline = require('node:readline');
const mqtt = require('mqtt');

let client;

const say = (report) => process.stdout.write(JSON.stringify(report) + '\n');
const base64 = (buffer) => buffer.toString('base64');
const orNull = (value, convert) => (value === undefined ? null : convert ? convert(value) : value);

// MQTT.js gives an object: a name that occurs more than once has a list of values.
function userPropertyPairs(properties) {
  return Object.entries(properties.userProperties ?? {}).flatMap(([name, values]) =>
    [values].flat().map((value) => [name, value]));
}

function tellMessage(topic, payload, packet) {
  const properties = packet.properties ?? {};
  say({
    topic,
    payload: base64(payload),
    qos: packet.qos,
    retain: packet.retain,
    userProperties: userPropertyPairs(properties),
    responseTopic: orNull(properties.responseTopic),
    correlationData: orNull(properties.correlationData, base64),
    contentType: orNull(properties.contentType),
  });
}

function publishProperties(order) {
  const properties = {};
  for (const [name, value] of order.userProperties) {
    properties.userProperties ??= {};
    (properties.userProperties[name] ??= []).push(value);
  }
  if (order.responseTopic !== null) properties.responseTopic = order.responseTopic;
  if (order.correlationData !== null) properties.correlationData = Buffer.from(order.correlationData, 'base64');
  if (order.contentType !== null) properties.contentType = order.contentType;
  return properties;
}

const orders = {
  async connect({ url, options }) {
    client = mqtt.connect(url, { ...options, manualConnect: true });
    // Before the connection exists: a session that goes on may deliver at once.
    client.on('message', tellMessage);
    await new Promise((resolve, reject) => {
      client.once('connect', resolve);
      client.once('error', reject);
      client.connect();
    });
    return {};
  },
  async subscribe({ filter, qos }) {
    return { granted: await client.subscribeAsync(filter, { qos }) };
  },
  async publish(order) {
    const options = { qos: order.qos, retain: order.retain };
    const properties = publishProperties(order);
    if (Object.keys(properties).length > 0) options.properties = properties;
    await client.publishAsync(order.topic, Buffer.from(order.payload, 'base64'), options);
    return {};
  },
  async end() {
    await client.endAsync();
    return {};
  },
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    try {
      say({ answer: order.order, ...(await orders[order.order](order)) });
    } catch (error) {
      say({ answer: order.order, error: String(error) });
    }
  }
  // Whoever gave the orders is gone.
  process.exit(0);
}

main();
