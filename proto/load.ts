/** Loads Envoy's protos at run time from where @grpc/grpc-js-xds carries them, with the options that the generated types assume. */
import { createRequire } from 'node:module';
import path from 'node:path';
import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType as AdsTypes } from './generated/ads.ts';
import type { ProtoGrpcType as AccessLogTypes } from './generated/als.ts';
import type { ProtoGrpcType as EdsTypes } from './generated/eds.ts';
import type { ProtoGrpcType as EndpointTypes } from './generated/endpoint.ts';
import type { ProtoGrpcType as ExternalAuthTypes } from './generated/external_auth.ts';

const deps = path.join(path.dirname(createRequire(import.meta.url).resolve('@grpc/grpc-js-xds/package.json')), 'deps');

export const protoIncludeDirs = ['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'].map((name) => path.join(deps, name));

/** The protos whose closure kura uses. */
export const protoFiles = [
  'envoy/service/auth/v3/external_auth.proto',
  'envoy/service/endpoint/v3/eds.proto',
  'envoy/service/discovery/v3/ads.proto',
  'envoy/config/endpoint/v3/endpoint.proto',
  'envoy/service/accesslog/v3/als.proto',
];

/** Field names stay as in the proto: with camel case Envoy sees an empty `ok_response` and nothing says so (facts/envoy.md). */
export const protoOptions = { keepCase: true, longs: Number, enums: String, oneofs: true } as const;

type EnvoyTypes = AccessLogTypes & AdsTypes & EdsTypes & EndpointTypes & ExternalAuthTypes;

let loaded: EnvoyTypes | undefined;

/** Envoy's services and messages, as grpc-js sees them; read once, which takes a quarter of a second. */
export function loadEnvoyProtos(): EnvoyTypes {
  loaded ??= loadPackageDefinition(loadSync(protoFiles, { ...protoOptions, includeDirs: protoIncludeDirs })) as unknown as EnvoyTypes;
  return loaded;
}
