// A client of MQTT.js that publishes numbered messages and connects again by itself, as the library does it. Arguments: URL,
// client id, filter, topic, beginning of each payload, milliseconds between two. A line of JSON on standard output for each
// connection, delivery and acknowledgement; a line on standard input ends the publishing.
'use strict';

const mqtt = require('mqtt');

const [url, clientId, filter, topic, beginning, everyMs] = process.argv.slice(2);
const say = (report) => process.stdout.write(JSON.stringify(report) + '\n');
const client = mqtt.connect(url, { clientId, clean: false, reconnectPeriod: 1000 });

let next = 0;
const timer = setInterval(() => {
  if (!client.connected) return;
  const number = next++;
  client.publish(topic, `${beginning} ${number}`, { qos: 1 }, (error) => {
    if (!error) say({ acknowledged: number });
  });
}, Number(everyMs));

client.on('message', (at, payload) => say({ topic: at, payload: payload.toString() }));
client.on('connect', (packet) => {
  say({ connected: packet.sessionPresent });
  if (packet.sessionPresent) return;
  client.subscribe(filter, { qos: 1 }, (error) => say({ subscribed: !error }));
});
client.on('error', (error) => say({ error: String(error) }));
process.stdin.once('data', () => {
  clearInterval(timer);
  say({ published: next });
});
