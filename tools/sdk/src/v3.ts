import assert from 'node:assert/strict';
import { createClient } from '../build/v3/client';
import * as v3 from '../build/v3';
import { world } from './world';

// check drives API v3 in the items dialect with the generated client.
export async function check(): Promise<void> {
  const client = createClient({ baseUrl: `${world.api}/api/v3`, auth: world.app });
  const admin = createClient({ baseUrl: `${world.dashboard}/api/v3`, auth: world.user });

  const calls = (await v3.listAllApi({ client, throwOnError: true })).data;
  assert.ok(calls.length >= 55, `${calls.length} calls are listed`);

  const brokers = (await v3.listBrokers({ client, throwOnError: true })).data;
  const broker = brokers[0];
  assert.ok(broker && broker.node_status === 'Running');
  const node = broker.node;

  const connections = (await v3.listConnections({ client, throwOnError: true, query: { _page: 1, _limit: 10 } })).data;
  assert.deepEqual([connections.meta.page, connections.meta.limit], [1, 10]);

  const figures = (await v3.getNode({ client, throwOnError: true, path: { node } })).data;
  assert.equal(typeof figures.memory_total, 'number');

  const published = (await v3.mqttPublish({ client, throwOnError: true, body: { topic: 'sdk/v3', payload: 'hello' } })).data;
  assert.deepEqual(published, { code: 0 });
  const offline = (await v3.mqttSubscribe({ client, throwOnError: true, body: { client_id: 'sdk-nobody', topic: 't' } })).data;
  assert.equal(offline.code, 112);

  const ban = { who: 'sdk-banned', as: 'client_id', reason: 'sdk' } as const;
  const echoed = await v3.createBanned({ client, throwOnError: true, body: { ...ban } });
  assert.equal(echoed.response.status, 201);
  assert.deepEqual(echoed.data, ban);
  const bans = (await v3.listBanned({ client, throwOnError: true })).data;
  const row = bans.items.find((b) => b.who === ban.who);
  assert.ok(row && row.until === 'undefined' && row.by === 'undefined');
  const lifted = (await v3.deleteBanned({ client, throwOnError: true, path: { who: ban.who }, query: { as: ban.as } })).data;
  assert.equal(lifted, 'ok');
  const missing = await v3.deleteBanned({ client, path: { who: ban.who } });
  assert.equal(missing.response?.status, 422);
  assert.ok(typeof missing.error === 'object' && 'errorCode' in missing.error && missing.error.errorCode === 107);

  const kicked = await v3.kickoutConnection({ client, path: { clientid: 'sdk-nobody' } });
  assert.equal(kicked.response?.status, 500);
  assert.deepEqual(kicked.error, { message: 'not_found' });

  const apps = (await v3.listApps({ client: admin, throwOnError: true })).data;
  assert.ok(apps.some((a) => world.app.startsWith(`${a.app_id}:`)), 'our application is listed');
  const elsewhere = await v3.listApps({ client });
  assert.equal(elsewhere.response?.status, 404, 'applications are not managed on the API listener');
}
