import assert from 'node:assert/strict';
import { createClient } from '../build/v3-code/client';
import * as v3 from '../build/v3-code';
import { world } from './world';

// check drives API v3 in the code dialect with the generated client.
export async function check(): Promise<void> {
  const client = createClient({ baseUrl: `${world.api}/api/v3`, auth: world.app });

  const brokers = (await v3.listBrokers({ client, throwOnError: true })).data;
  assert.ok(brokers.code === 0 && brokers.data[0]?.node_status === 'Running');

  const connections = (await v3.listConnections({ client, throwOnError: true, query: { _page: 1, _limit: 10 } })).data;
  assert.ok(connections.code === 0 && Array.isArray(connections.data) && connections.meta.limit === 10);

  const published = (await v3.mqttPublish({ client, throwOnError: true, body: { topic: 'sdk/v3', payload: 'hello' } })).data;
  assert.deepEqual(published, { code: 0 });
  const offline = (await v3.mqttSubscribe({ client, throwOnError: true, body: { client_id: 'sdk-nobody', topic: 't' } })).data;
  assert.deepEqual(offline, { code: 112, message: 'session_not_found' });

  const ban = { who: 'sdk-banned', as: 'client_id', reason: 'sdk' } as const;
  const echoed = await v3.createBanned({ client, throwOnError: true, body: { ...ban } });
  assert.equal(echoed.response.status, 200);
  assert.ok(echoed.data.code === 0);
  assert.deepEqual(echoed.data.data, ban);
  const lifted = (await v3.deleteBanned({ client, throwOnError: true, path: { who: ban.who }, query: { as: ban.as } })).data;
  assert.deepEqual(lifted, { code: 0 });
  const missing = (await v3.deleteBanned({ client, throwOnError: true, path: { who: ban.who } })).data;
  assert.equal(missing.code, 107);

  const kicked = (await v3.kickoutConnection({ client, throwOnError: true, path: { clientid: 'sdk-nobody' } })).data;
  assert.deepEqual(kicked, { code: 112, message: 'not_found' });
}
