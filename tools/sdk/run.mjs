// Runs the generated clients against a node: against the one that LACEWING_API names, or against nodes of its own, one for
// each dialect of v3, built from this tree and started on free ports with a data directory that is removed afterwards.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const application = { id: 'sdk', secret: 'sdk-secret-of-this-run' };

// must runs a command to its end and fails with it.
function must(command, args, options) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', timeout: 300_000, ...options });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${status}`);
}

// start runs a node and resolves with its addresses, which it logs.
function start(binary, dataDir, dialect) {
  const off = ['listener.tcp.internal', 'listener.ssl.external', 'listener.ws.external', 'listener.wss.external'];
  const free = ['listener.tcp.external', 'management.listener.http', 'dashboard.listener.http', 'cluster.listen'];
  const settings = [
    ...off.map((key) => `${key}=off`),
    ...free.map((key) => `${key}=127.0.0.1:0`),
    `management.bootstrap_app.id=${application.id}`,
    `management.bootstrap_app.secret=${application.secret}`,
    `management.v3_dialect=${dialect}`,
    'log.format=json',
  ];
  const child = spawn(binary, ['--data-dir', dataDir, ...settings.flatMap((s) => ['--set', s])], { stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve, reject) => {
    let log = '';
    const found = {};
    const late = setTimeout(() => reject(new Error(`the node does not say where it listens:\n${log}`)), 30_000);
    child.on('exit', (code) => reject(new Error(`the node ended with ${code}:\n${log}`)));
    child.stdout.on('data', (chunk) => {
      log += chunk;
      for (const line of log.split('\n').slice(0, -1)) {
        const entry = JSON.parse(line);
        if (entry.msg === 'listening') found[entry.listener] = entry.address;
      }
      const api = found['http management'];
      const dashboard = found['http dashboard'];
      if (api && dashboard) {
        clearTimeout(late);
        resolve({ child, api: `http://${api}`, dashboard: `http://${dashboard}` });
      }
    });
  });
}

function stop(child) {
  return new Promise((resolve) => {
    child.removeAllListeners('exit');
    child.on('exit', resolve);
    child.kill('SIGTERM');
    setTimeout(() => child.kill('SIGKILL'), 20_000).unref();
  });
}

const clients = ['node', [join(here, 'build', 'js', 'src', 'main.js')]];

if (process.env.LACEWING_API) {
  must(...clients);
} else {
  const scratch = mkdtempSync(join(tmpdir(), 'lacewing-sdk-'));
  try {
    const binary = join(scratch, 'lacewing');
    const example = join(scratch, 'apiclient');
    must('go', ['build', '-o', binary, '.'], { cwd: root });
    must('go', ['build', '-o', example, './examples/apiclient'], { cwd: root });
    for (const dialect of ['items', 'code']) {
      const node = await start(binary, join(scratch, dialect), dialect);
      try {
        const env = {
          ...process.env,
          LACEWING_API: node.api,
          LACEWING_DASHBOARD: node.dashboard,
          LACEWING_USER: 'admin:public',
          LACEWING_APP: `${application.id}:${application.secret}`,
          LACEWING_SECRET: application.secret,
          LACEWING_DIALECT: dialect,
        };
        must(...clients, { env });
        if (dialect === 'items') {
          must(example, ['-url', node.api, '-app', application.id], { env });
        }
      } finally {
        await stop(node.child);
      }
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
