// Drives a broker with MQTT.js and prints one JSON line: {"ok": true, "checks": n} or {"ok": false, "error": "..."}.
// Arguments: URL (mqtt, mqtts, ws, wss), protocol version (3, 4, 5).
import mqtt from 'mqtt'
import { randomBytes } from 'node:crypto'

const [url, version] = [process.argv[2], Number(process.argv[3])]
const topic = `clients/js/${randomBytes(6).toString('hex')}`
const options = {
  protocolVersion: version,
  protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
  clientId: `js-${randomBytes(6).toString('hex')}`,
  rejectUnauthorized: false, // the node's own self-signed certificate
  reconnectPeriod: 0,
  connectTimeout: 10_000,
}

let checks = 0
function check(what, got, want) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`)
  checks++
}

// Messages in order of arrival, handed out one at a time.
function inbox(client) {
  const waiting = [], messages = []
  client.on('message', (topic, payload, packet) => {
    const m = { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, properties: packet.properties }
    waiting.length ? waiting.shift()(m) : messages.push(m)
  })
  return () => new Promise((resolve, reject) => {
    if (messages.length) return resolve(messages.shift())
    const timer = setTimeout(() => reject(new Error('no message within 10 s')), 10_000)
    waiting.push((m) => { clearTimeout(timer); resolve(m) })
  })
}

async function main() {
  const client = await mqtt.connectAsync(url, options)
  const next = inbox(client)
  for (const qos of [0, 1, 2]) {
    const granted = await client.subscribeAsync(`${topic}/${qos}`, { qos })
    check(`granted qos ${qos}`, granted[0].qos, qos)
    await client.publishAsync(`${topic}/${qos}`, `hello ${qos}`, { qos })
    const m = await next()
    check(`delivery qos ${qos}`, [m.topic, m.payload, m.qos, m.retain], [`${topic}/${qos}`, `hello ${qos}`, qos, false])
  }
  await client.publishAsync(`${topic}/kept`, 'kept', { qos: 1, retain: true })
  await client.subscribeAsync(`${topic}/+`, { qos: 1 })
  const kept = await next()
  check('retained', [kept.topic, kept.payload, kept.retain], [`${topic}/kept`, 'kept', true])
  await client.publishAsync(`${topic}/kept`, '', { qos: 1, retain: true })
  const cleared = await next()
  check('retained cleared', [cleared.payload, cleared.retain], ['', false])
  if (version === 5) {
    await client.subscribeAsync(`${topic}/v5`, { qos: 1, properties: { subscriptionIdentifier: 7 } })
    await client.publishAsync(`${topic}/v5`, 'five', {
      qos: 1,
      properties: { contentType: 'text/plain', responseTopic: 'answer', correlationData: Buffer.from('42'), userProperties: { a: 'b' } },
    })
    // Two subscriptions match (the wildcard and this one): the copy with the identifier carries the properties.
    let m = await next()
    if (!m.properties?.subscriptionIdentifier) m = await next()
    check('v5 properties', [m.properties.contentType, m.properties.responseTopic, m.properties.correlationData.toString(), { ...m.properties.userProperties }, m.properties.subscriptionIdentifier],
      ['text/plain', 'answer', '42', { a: 'b' }, 7])
  }
  const large = 'x'.repeat(48 * 1024)
  await client.subscribeAsync(`${topic}-large`, { qos: 1 })
  await client.publishAsync(`${topic}-large`, large, { qos: 1 })
  let m = await next()
  while (m.topic !== `${topic}-large`) m = await next()
  check('large payload', m.payload.length, large.length)
  await client.unsubscribeAsync(`${topic}/0`)
  await client.endAsync()
}

main().then(
  () => { console.log(JSON.stringify({ ok: true, checks })); process.exit(0) },
  (err) => { console.log(JSON.stringify({ ok: false, error: String(err?.stack ?? err) })); process.exit(1) },
)
