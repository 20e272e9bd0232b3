// The contract as grpc-js takes it: loaded from the .proto files, no code is generated.
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const PROTO = path.join(import.meta.dirname, '../../proto');

/** Where a file of the contract is. */
export const contract = (name) => path.join(PROTO, 'ottla/v1', name);

const files = ['admin.proto', 'data.proto', 'group.proto'].map(contract);
const options = { includeDirs: [PROTO], longs: Number, enums: String, arrays: true, oneofs: true };

/** The generated services and messages. */
export const { ottla: { v1: ottla } } = grpc.loadPackageDefinition(loadSync(files, options));
