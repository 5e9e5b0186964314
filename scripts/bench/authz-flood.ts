/**
 * Floods authz with forged tokens, for authz.ts. Arguments: `SOCKET TOKEN PER_SECOND SECONDS`. Each forged token differs from the token
 * only in its signature, which is the most expensive kind to reject. Prints the results as JSON.
 */
import { randomBytes } from 'node:crypto';
import { connect, openLoop, requestOf } from './authz-client.ts';

const [socket, token, perSecond, seconds] = process.argv.slice(2) as [string, string, string, string];
const client = connect(socket);
const good = requestOf(token, '/objects/vision/x');
const signature = token.slice(token.lastIndexOf('.') + 1);
const at = good.indexOf(signature);
const forge = (): Buffer => {
  const request = Buffer.from(good);
  request.write(randomBytes(signature.length).toString('base64url').slice(0, signature.length), at, 'latin1');
  return request;
};
console.log(JSON.stringify(await openLoop(client, forge, { perSecond: Number(perSecond), seconds: Number(seconds) })));
client.close();
