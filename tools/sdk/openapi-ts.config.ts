import { defineConfig } from '@hey-api/openapi-ts';

// One client for each published document, into build/, which is not committed.
export default defineConfig(
  ['v2', 'v3', 'v3-code'].map((name) => ({
    input: `../../openapi/${name}.yaml`,
    output: `build/${name}`,
    plugins: ['@hey-api/client-fetch', '@hey-api/typescript', '@hey-api/sdk'],
  })),
);
