import assert from 'node:assert/strict';
import { createClient } from '../build/v2/client';
import * as v2 from '../build/v2';
import { world } from './world';

// check drives API v2 with the generated client and looks at what really changed.
export async function check(): Promise<void> {
  const client = createClient({ baseUrl: `${world.api}/api/v2`, auth: world.user, throwOnError: true });

  const nodes = (await v2.listNodes({ client, throwOnError: true })).data;
  assert.equal(nodes.code, 0);
  if (nodes.code !== 0) return;
  const first = nodes.result[0];
  assert.ok(first && first.node_status === 'Running', 'the first node runs');
  const node = first.name;

  const page = (await v2.listNodeClients({ client, throwOnError: true, path: { node }, query: { curr_page: 1, page_size: 5 } })).data;
  assert.ok(page.code === 0 && page.result.current_page === 1 && page.result.page_size === 5);

  const metrics = (await v2.listNodeMetrics({ client, throwOnError: true, path: { node } })).data;
  assert.ok(metrics.code === 0 && Object.keys(metrics.result).length === 38, '38 metrics');

  const published = (await v2.mqttPublish({ client, throwOnError: true, body: { topic: 'sdk/v2', payload: 'hello', qos: 1 } })).data;
  assert.deepEqual(published, { code: 0, result: [] });
  const refused = (await v2.mqttPublish({ client, throwOnError: true, body: { topic: 'sdk/#', payload: 'hello' } })).data;
  assert.equal(refused.code, 102, 'a wildcard is refused');

  const username = 'sdk_user';
  const made = (await v2.createUser({ client, throwOnError: true, body: { username, password: 'sdk_password', tags: 'sdk' } })).data;
  assert.equal(made.code, 0);
  try {
    const again = (await v2.createUser({ client, throwOnError: true, body: { username, password: 'x', tags: '' } })).data;
    assert.equal(again.code, 113, 'the name is taken');
    const one = (await v2.lookupUser({ client, throwOnError: true, path: { username } })).data;
    assert.ok(one.code === 0 && !Array.isArray(one.result) && one.result.tags === 'sdk');
    const auth = (await v2.authUser({ client, throwOnError: true, body: { username, password: 'sdk_password' } })).data;
    assert.equal(auth.code, 0);
  } finally {
    await v2.deleteUser({ client, path: { username } });
  }
  const gone = (await v2.lookupUser({ client, throwOnError: true, path: { username } })).data;
  assert.ok(gone.code === 0 && Array.isArray(gone.result) && gone.result.length === 0, 'the user is gone');

  const stranger = await v2.listNodes({ client: createClient({ baseUrl: `${world.api}/api/v2`, auth: 'nobody:nothing' }) });
  assert.equal(stranger.response?.status, 401);
}
