import * as v2 from './v2';
import * as v3 from './v3';
import * as v3code from './v3-code';
import { world } from './world';

// main runs the generated clients against the node that the environment names and fails on the first surprise.
async function main(): Promise<void> {
  await v2.check();
  console.log('v2: ok');
  await (world.dialect === 'code' ? v3code : v3).check();
  console.log(`v3, ${world.dialect} dialect: ok`);
}

main().catch((err: unknown) => {
  console.error(err);
  process.exitCode = 1;
});
