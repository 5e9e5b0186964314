/** For `npm run test:kubernetes`: the files that need a real control plane, which plain `npm test` leaves out. */
// biome-ignore lint/style/noDefaultExport: the form that ava reads.
export default {
  extensions: ['ts'],
  files: ['test/kubernetes/**/*.plane.ts'],
  timeout: '3m',
  workerThreads: false,
};
