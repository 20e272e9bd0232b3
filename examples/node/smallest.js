import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const proto = new URL('../../proto', import.meta.url).pathname;
const { ottla } = grpc.loadPackageDefinition(loadSync('ottla/v1/data.proto', { includeDirs: [proto], longs: Number }));

const [address, topic] = process.argv.slice(2);
const data = new ottla.v1.DataService(address, grpc.credentials.createInsecure());
const send = promisify(data.send).bind(data);
const fetch = promisify(data.fetch).bind(data);

const sent = await send({ topic, records: [{ key: Buffer.from('k'), value: Buffer.from('hello') }] });
console.log(`stored at offset ${sent.results[0].offset ?? 0}`);

const read = await fetch({ partitions: [{ topic, offset: -2 }] });
for (const batch of read.partitions[0].batches) {
  for (const { key, value } of batch.records.records) console.log(`${key} ${value}`);
}
data.close();
