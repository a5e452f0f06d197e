// Where the node is and who calls it. All of it comes from the environment.

function need(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`set ${name}: LACEWING_API and LACEWING_DASHBOARD are base URLs such as http://127.0.0.1:8080`);
  }
  return value;
}

export const world = {
  api: need('LACEWING_API'),
  dashboard: need('LACEWING_DASHBOARD'),
  // "name:password" of an admin user and "id:secret" of an application.
  user: need('LACEWING_USER'),
  app: need('LACEWING_APP'),
  // items or code: the dialect that the node speaks.
  dialect: process.env['LACEWING_DIALECT'] ?? 'items',
};
