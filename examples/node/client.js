// A complete client on stubs that are made from the contract when it starts: see ../README.md. Takes one address;
// any node forwards.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { contract, ottla } from './contract.js';

const RETRY_MS = 30_000;
const CALL_MS = 10_000;
const EARLIEST = -2;
const TRANSIENT = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED, grpc.status.CANCELLED];

class Refused extends Error {}

const failed = (error) => error && error.code && error.code !== 'ERROR_CODE_NONE';

/** One unary call as a promise. */
const call = (stub, method, request) =>
  new Promise((resolve, reject) => {
    stub[method](request, { deadline: Date.now() + CALL_MS }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });

/** Calls `attempt`, which returns the errors in its answer, until no retriable one is left. */
async function again(attempt) {
  const deadline = Date.now() + RETRY_MS;
  for (;;) {
    let error;
    try {
      error = (await attempt()).find(failed);
      if (!error) return;
    } catch (fault) {
      if (!TRANSIENT.includes(fault.code) || Date.now() > deadline) throw fault;
      error = { code: 'ERROR_CODE_NETWORK_EXCEPTION', message: fault.details, retriable: true };
    }
    if (Date.now() > deadline || !error.retriable) throw new Refused(`${error.code}: ${error.message}`);
    await sleep(Math.max(error.retryAfterMs ?? 0, 50));
  }
}

/** The records of batches from an offset on: the first batch may begin before it. */
function* recordsOf(batches, wanted) {
  for (const batch of batches ?? []) {
    for (const [place, record] of (batch.records?.records ?? []).entries()) {
      const offset = Number(batch.baseOffset ?? 0) + (record.offsetDelta ?? place);
      if (offset >= wanted) yield [offset, record];
    }
  }
}

/** The program: one method per verb. */
class Client {
  constructor(address, hex) {
    const plain = grpc.credentials.createInsecure();
    this.data = new ottla.DataService(address, plain);
    this.admin = new ottla.AdminService(address, plain);
    this.groups = new ottla.GroupService(address, plain);
    this.hex = hex;
  }

  close() {
    for (const stub of [this.data, this.admin, this.groups]) stub.close();
  }

  async createTopic(name, partitions, replication) {
    const topic = { name, numPartitions: Number(partitions), replicationFactor: Number(replication) };
    await again(async () => {
      const [result] = (await call(this.admin, 'createTopics', { topics: [topic] })).topics;
      if (!failed(result.error)) print(result.topicId.toString('hex'));
      return [result.error];
    });
  }

  /** A record is sent again only while its own refusal is retriable. */
  async produce(topic) {
    for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
      const request = { topic, acks: -1, records: [this.recordOf(line)] };
      await again(async () => {
        const [result] = (await call(this.data, 'send', request)).results;
        if (!failed(result.error)) print(result.partition ?? 0, result.offset ?? 0);
        return [result.error];
      });
    }
  }

  async consume(topic, partition, offset, count) {
    let [next, left] = [Number(offset), Number(count)];
    while (left > 0) {
      const [result] = await this.fetch([{ topic, partition: Number(partition), offset: next }], 500);
      for (const [at, record] of recordsOf(result.batches, next)) {
        if (left-- > 0) print(at, this.show(record));
      }
      next = result.nextOffset ?? 0;
    }
  }

  /** Follows what it is told: stop with what is not in an assignment, start with what is new. */
  async group(group, topic, idleMs) {
    const member = { id: randomUUID(), epoch: 0, positions: new Map(), leaving: false };
    const listening = this.listen(group, topic, member);
    let last = Date.now();
    while (Date.now() - last < Number(idleMs)) {
      const { positions } = member;
      if (positions.size === 0) {
        await sleep(20);
        continue;
      }
      const wanted = [...positions].map(([partition, offset]) => ({ topic, partition, offset }));
      for (const result of await this.fetch(wanted, 200)) {
        const partition = result.partition ?? 0;
        if (member.positions !== positions) break; // another assignment came meanwhile
        for (const [at, record] of recordsOf(result.batches, positions.get(partition))) {
          print(partition, at, this.show(record));
          last = Date.now();
        }
        positions.set(partition, result.nextOffset ?? 0);
      }
      await this.commit(group, topic, member);
    }
    member.leaving = true;
    member.session?.write({ leave: {} });
    member.session?.end();
    await Promise.race([listening, sleep(10_000)]); // until the coordinator has heard it, too
  }

  /** Reads a partition's file as the message it is. */
  async segment(file) {
    const Segment = (await protobuf.load(contract('record.proto'))).lookupType('ottla.v1.Segment');
    const { batches } = Segment.toObject(Segment.decode(readFileSync(file)), { longs: Number });
    for (const [at, record] of recordsOf(batches, 0)) print(at, this.show(record));
  }

  /** Three refusals: what the code is called, and whether to try again. */
  async errors(topic) {
    const [small, large] = [{ value: Buffer.from('x') }, { value: Buffer.alloc(2_000_000, 'x') }];
    for (const [name, acks, record] of [['no-such-topic', -1, small], [topic, -1, large], [topic, 7, small]]) {
      const { error } = (await call(this.data, 'send', { topic: name, acks, records: [record] })).results[0];
      print(error.code, error.retriable ?? false);
    }
  }

  async fetch(partitions, maxWaitMs) {
    let results = [];
    await again(async () => {
      results = (await call(this.data, 'fetch', { partitions, maxWaitMs })).partitions;
      return results.map((result) => result.error);
    });
    return results;
  }

  /** One session after the other, until the member leaves; after a lost one it comes back under its id. */
  async listen(group, topic, member) {
    while (!member.leaving) {
      const session = (member.session = this.groups.session());
      session.write({ join: { groupId: group, topics: [topic], memberId: member.id, memberEpoch: member.epoch } });
      await new Promise((ended) => {
        session.on('data', (response) => this.follow(response, session, member));
        session.on('error', ended);
        session.on('end', ended);
      });
      await sleep(50);
    }
  }

  follow(response, session, member) {
    if (response.error) {
      if (!response.error.retriable) {
        member.epoch = 0;
        member.positions = new Map();
      }
      session.end(); // the call ends when both sides have ended
      return;
    }
    if (!response.assignment) return;
    const { memberEpoch, assignmentId, partitions = [] } = response.assignment;
    member.epoch = memberEpoch ?? 0;
    session.write({ owned: { assignmentId, partitions: partitions.map((given) => given.partition) } });
    const before = member.positions;
    member.positions = new Map(
      partitions.map(({ partition: { partition = 0 }, committedOffset }) => [
        partition,
        before.get(partition) ?? committedOffset ?? EARLIEST,
      ]),
    );
  }

  /** A refusal (another epoch by now) costs nothing: the next assignment or commit settles it. */
  async commit(group, topic, member) {
    const offsets = [...member.positions]
      .filter(([, offset]) => offset >= 0)
      .map(([partition, offset]) => ({ partition: { topic, partition }, offset }));
    const request = { groupId: group, memberId: member.id, memberEpoch: member.epoch, offsets };
    await call(this.groups, 'commitOffsets', request).catch((fault) => {
      if (!TRANSIENT.includes(fault.code)) throw fault;
    });
  }

  decode(text) {
    if (!this.hex) return Buffer.from(text);
    return text === '-' ? undefined : Buffer.from(text, 'hex');
  }

  recordOf(line) {
    const [first, second, headers = ''] = line.split('\t');
    if (second === undefined) return { value: this.decode(first) };
    const pairs = (this.hex && headers ? headers.split(',') : []).map((header) => {
      const [key, text] = header.split('=');
      return { key, value: this.decode(text) };
    });
    return { key: this.decode(first), value: this.decode(second), headers: pairs };
  }

  show({ key, value, headers }) {
    const text = (bytes) => (this.hex ? (bytes?.toString('hex') ?? '-') : (bytes ?? ''));
    const columns = [text(key), text(value)];
    if (this.hex) columns.push((headers ?? []).map((header) => `${header.key}=${text(header.value)}`).join(','));
    return columns.join('\t');
  }
}

const print = (...columns) => process.stdout.write(`${columns.join('\t')}\n`);

const VERBS = {
  'create-topic': 'createTopic', produce: 'produce', consume: 'consume', group: 'group', segment: 'segment',
  errors: 'errors',
};
// parseArgs would take a negative offset for an option: only what stands before the verb is parsed.
const verbAt = process.argv.findIndex((word, place) => place > 1 && word in VERBS);
if (verbAt < 0) {
  console.error('usage: see examples/README.md');
  process.exit(1);
}
const { values } = parseArgs({
  args: process.argv.slice(2, verbAt),
  options: { address: { type: 'string', default: '127.0.0.1:9192' }, hex: { type: 'boolean', default: false } },
});
const client = new Client(values.address, values.hex);
try {
  await client[VERBS[process.argv[verbAt]]](...process.argv.slice(verbAt + 1));
} catch (fault) {
  console.error(fault.message);
  process.exitCode = 1;
}
client.close();
