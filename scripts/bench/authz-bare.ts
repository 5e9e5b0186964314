/** The baseline of authz.ts: a bare grpc-js server. Arguments: the socket, and the response to every check (base64). */
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { loadEnvoyProtos } from '../../proto/load.ts';

const [socket, answer] = process.argv.slice(2) as [string, string];
const { Authorization } = loadEnvoyProtos().envoy.service.auth.v3;
const constant = Authorization.service.Check.responseDeserialize(Buffer.from(answer, 'base64'));
const server = new Server();
server.addService(Authorization.service, {
  Check: (_call: unknown, callback: (error: null, value: object) => void) => callback(null, constant),
});
server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), () => process.send?.('ready'));
