/** What Envoy tells of the transfers that have ended (gRPC access log): of namespaces whose bytes are limited, and of no others. */
import type { Server, ServerReadableStream, sendUnaryData } from '@grpc/grpc-js';
import type { StreamAccessLogsMessage__Output } from '../../../proto/generated/envoy/service/accesslog/v3/StreamAccessLogsMessage.ts';
import type { StreamAccessLogsResponse } from '../../../proto/generated/envoy/service/accesslog/v3/StreamAccessLogsResponse.ts';
import { loadEnvoyProtos } from '../../../proto/load.ts';
import { parseCaller } from '../../shared/signed-terms.ts';

type Call = ServerReadableStream<StreamAccessLogsMessage__Output, StreamAccessLogsResponse>;

/** Adds `StreamAccessLogs` to the server; bodies in both directions count. */
export function addTransfers(server: Server, { transferred }: { transferred: (namespace: string, bytes: number) => void }): void {
  const { AccessLogService } = loadEnvoyProtos().envoy.service.accesslog.v3;
  server.addService(AccessLogService.service, {
    StreamAccessLogs: (call: Call, callback: sendUnaryData<StreamAccessLogsResponse>): void => {
      call.on('data', ({ http_logs }: StreamAccessLogsMessage__Output) => {
        for (const { request, response } of http_logs?.log_entry ?? []) {
          const caller = parseCaller(request?.request_headers?.['x-kura-caller'] ?? '');
          // A field of 0 is not on the wire.
          const bytes = Number(request?.request_body_bytes ?? 0) + Number(response?.response_body_bytes ?? 0);
          if (caller !== undefined) transferred(caller.namespace, bytes);
        }
      });
      call.on('end', () => callback(null, {}));
      // Envoy opens another stream; what was under way is lost, as its access log may be.
      call.on('error', () => undefined);
    },
  });
}
