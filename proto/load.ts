/** Loads Envoy's protos from the package @grpc/grpc-js-xds at run time, with the options that the generated types assume. */
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

/** kura uses these protos and their imports. */
export const protoFiles = [
  'envoy/service/auth/v3/external_auth.proto',
  'envoy/service/endpoint/v3/eds.proto',
  'envoy/service/discovery/v3/ads.proto',
  'envoy/config/endpoint/v3/endpoint.proto',
  'envoy/service/accesslog/v3/als.proto',
];

/** `keepCase` keeps the field names of the protos. With camel case, Envoy would get an empty `ok_response` without an error. */
export const protoOptions = { keepCase: true, longs: Number, enums: String, oneofs: true } as const;

type EnvoyTypes = AccessLogTypes & AdsTypes & EdsTypes & EndpointTypes & ExternalAuthTypes;

let loaded: EnvoyTypes | undefined;

/** Envoy's services and messages for grpc-js. They are read only once, because that takes a quarter of a second. */
export function loadEnvoyProtos(): EnvoyTypes {
  loaded ??= loadPackageDefinition(loadSync(protoFiles, { ...protoOptions, includeDirs: protoIncludeDirs })) as unknown as EnvoyTypes;
  return loaded;
}
