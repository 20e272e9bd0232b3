//! A complete client on generated stubs alone: see ../README.md. Takes one address; any node forwards.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub mod v1 {
    tonic::include_proto!("ottla.v1");
}
use v1::admin_service_client::AdminServiceClient;
use v1::data_service_client::DataServiceClient;
use v1::group_service_client::GroupServiceClient;
use v1::{session_request, session_response, *};

const EARLIEST: i64 = -2;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

struct Client {
    data: DataServiceClient<Channel>,
    admin: AdminServiceClient<Channel>,
    groups: GroupServiceClient<Channel>,
    hex: bool,
}

fn transient(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

/// Calls until no retriable error is left; `errors` finds them in an answer.
async fn again<T, F: Future<Output = Result<T, Status>>>(
    mut call: impl FnMut() -> F, errors: impl Fn(&T) -> Vec<Option<Error>>,
) -> Fallible<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let first = match call().await {
            Ok(answer) => match errors(&answer).into_iter().flatten().find(|e| e.code != 0) {
                None => return Ok(answer),
                Some(error) => error,
            },
            Err(status) => {
                let code = ErrorCode::NetworkException.into();
                Error { code, message: status.to_string(), retriable: transient(&status), ..Default::default() }
            }
        };
        if !first.retriable || Instant::now() > deadline {
            return Err(format!("{}: {}", first.code().as_str_name(), first.message).into());
        }
        tokio::time::sleep(Duration::from_millis(first.retry_after_ms.max(50) as u64)).await;
    }
}

/// The records from the wanted offset on: the first batch may begin before it.
fn records(batches: &[RecordBatch], wanted: i64) -> Vec<(i64, &Record)> {
    let mut found = Vec::new();
    for batch in batches {
        if let Some(record_batch::Payload::Records(records)) = &batch.payload {
            for (place, record) in records.records.iter().enumerate() {
                let at = batch.base_offset + record.offset_delta.map_or(place as i64, i64::from);
                if at >= wanted {
                    found.push((at, record));
                }
            }
        }
    }
    found
}

fn said(message: session_request::Message) -> SessionRequest {
    SessionRequest { message: Some(message) }
}

impl Client {
    async fn create_topic(&self, topic: &str, partitions: i32, replication: i32) -> Fallible<()> {
        let (num_partitions, replication_factor) = (Some(partitions), Some(replication));
        let wanted = NewTopic { name: topic.into(), num_partitions, replication_factor, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![wanted], ..Default::default() };
        let call = || async { Ok(self.admin.clone().create_topics(request.clone()).await?.into_inner()) };
        let answer = again(call, |a: &CreateTopicsResponse| a.topics.iter().map(|t| t.error.clone()).collect()).await?;
        println!("{}", to_hex(&answer.topics[0].topic_id));
        Ok(())
    }

    /// A record is sent again only while its own refusal is retriable.
    async fn produce(&self, topic: &str) -> Fallible<()> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            let records = vec![self.parse(&line)?];
            let request = SendRequest { topic: topic.into(), acks: Some(-1), records, ..Default::default() };
            let call = || async { Ok(self.data.clone().send(request.clone()).await?.into_inner()) };
            let answer = again(call, |a: &SendResponse| a.results.iter().map(|r| r.error.clone()).collect()).await?;
            println!("{}\t{}", answer.results[0].partition, answer.results[0].offset);
        }
        Ok(())
    }

    async fn fetch(&self, topic: &str, positions: &BTreeMap<i32, i64>, wait_ms: i32) -> Fallible<Vec<FetchResult>> {
        let position = |(&partition, &offset)| {
            let topic = topic.into();
            FetchPartition { topic, partition, offset, ..Default::default() }
        };
        let partitions = positions.iter().map(position).collect();
        let request = FetchRequest { partitions, max_wait_ms: Some(wait_ms), ..Default::default() };
        let call = || async { Ok(self.data.clone().fetch(request.clone()).await?.into_inner()) };
        let answer = again(call, |a: &FetchResponse| a.partitions.iter().map(|p| p.error.clone()).collect()).await?;
        Ok(answer.partitions)
    }

    async fn consume(&self, topic: &str, partition: i32, offset: i64, mut count: usize) -> Fallible<()> {
        let mut positions = BTreeMap::from([(partition, offset)]);
        while count > 0 {
            for result in self.fetch(topic, &positions, 500).await? {
                for (at, record) in records(&result.batches, positions[&partition]).into_iter().take(count) {
                    println!("{at}\t{}", self.show(record));
                    count -= 1;
                }
                positions.insert(partition, result.next_offset);
            }
        }
        Ok(())
    }

    /// Follows what it is told: stops with what is not in an assignment, starts with what is new.
    async fn group(&self, group: &str, topic: &str, idle: Duration) -> Fallible<()> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let member_id = format!("rust-{}-{started}", std::process::id());
        let mut commit = CommitOffsetsRequest { group_id: group.into(), member_id, ..Default::default() };
        let (mut positions, mut last) = (BTreeMap::new(), Instant::now());
        'session: while last.elapsed() < idle {
            let (say, hear) = tokio::sync::mpsc::channel(16);
            let join = Join {
                group_id: group.into(),
                topics: vec![topic.into()],
                member_id: commit.member_id.clone(),
                member_epoch: commit.member_epoch,
                ..Default::default()
            };
            say.send(said(session_request::Message::Join(join))).await?;
            let mut told = match self.groups.clone().session(ReceiverStream::new(hear)).await {
                Ok(stream) => stream.into_inner(),
                Err(status) if transient(&status) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(status) => return Err(status.message().into()),
            };
            while last.elapsed() < idle {
                let patience = Duration::from_millis(if positions.is_empty() { 50 } else { 1 });
                let news = match tokio::time::timeout(patience, told.message()).await {
                    Err(_) => None,
                    Ok(Ok(Some(response))) => response.message,
                    Ok(_) => continue 'session,
                };
                match news {
                    Some(session_response::Message::Assignment(a)) => {
                        commit.member_epoch = a.member_epoch;
                        let before = std::mem::take(&mut positions);
                        for given in &a.partitions {
                            let number = given.partition.as_ref().map_or(0, |tp| tp.partition);
                            let start = given.committed_offset.unwrap_or(EARLIEST);
                            positions.insert(number, before.get(&number).copied().unwrap_or(start));
                        }
                        let partitions = a.partitions.into_iter().filter_map(|p| p.partition).collect();
                        let owned = Owned { assignment_id: a.assignment_id, partitions };
                        say.send(said(session_request::Message::Owned(owned))).await.ok();
                    }
                    Some(session_response::Message::Error(e)) if !e.retriable => {
                        (commit.member_epoch, positions) = (0, BTreeMap::new());
                    }
                    _ => (),
                }
                if !positions.is_empty() && self.read(topic, &mut positions, &mut commit).await? {
                    last = Instant::now();
                }
            }
            say.send(said(session_request::Message::Leave(Leave {}))).await.ok();
            drop(say);
            while let Ok(Some(_)) = told.message().await {}
        }
        Ok(())
    }

    /// One fetch of what is owned, printed and committed. Says whether there was a record.
    async fn read(
        &self, topic: &str, positions: &mut BTreeMap<i32, i64>, commit: &mut CommitOffsetsRequest,
    ) -> Fallible<bool> {
        let mut any = false;
        commit.offsets.clear();
        for result in self.fetch(topic, positions, 200).await? {
            for (at, record) in records(&result.batches, positions[&result.partition]) {
                println!("{}\t{at}\t{}", result.partition, self.show(record));
                any = true;
            }
            let (partition, offset) = (result.partition, result.next_offset);
            positions.insert(partition, offset);
            let partition = Some(TopicPartition { topic: topic.into(), partition, ..Default::default() });
            commit.offsets.push(OffsetCommit { partition, offset, ..Default::default() });
        }
        // A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
        self.groups.clone().commit_offsets(commit.clone()).await.ok();
        Ok(any)
    }

    /// Reads a partition's file as the message it is.
    fn segment(&self, path: &str) -> Fallible<()> {
        let file = <Segment as prost::Message>::decode(std::fs::read(path)?.as_slice())?;
        for (at, record) in records(&file.batches, 0) {
            println!("{at}\t{}", self.show(record));
        }
        Ok(())
    }

    /// Three refusals: what the code is called, and whether to try again.
    async fn errors(&self, topic: &str) -> Fallible<()> {
        for (name, acks, size) in [("no-such-topic", -1, 1), (topic, -1, 2_000_000), (topic, 7, 1)] {
            let records = vec![SendRecord { value: Some(vec![b'x'; size]), ..Default::default() }];
            let request = SendRequest { topic: name.into(), acks: Some(acks), records, ..Default::default() };
            let answer = self.data.clone().send(request).await?.into_inner();
            let error = answer.results[0].error.clone().unwrap_or_default();
            println!("{}\t{}", error.code().as_str_name(), error.retriable);
        }
        Ok(())
    }

    fn decode(&self, text: &str) -> Fallible<Option<Vec<u8>>> {
        let byte = |i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16);
        match (self.hex, text) {
            (false, _) => Ok(Some(text.into())),
            (true, "-") => Ok(None),
            (true, _) => Ok(Some((0..text.len() / 2).map(byte).collect::<Result<_, _>>()?)),
        }
    }

    fn encode(&self, bytes: &Option<Vec<u8>>) -> String {
        match bytes {
            _ if !self.hex => String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into(),
            None => "-".into(),
            Some(bytes) => to_hex(bytes),
        }
    }

    fn parse(&self, line: &str) -> Fallible<SendRecord> {
        let columns: Vec<&str> = line.split('\t').collect();
        let mut record = SendRecord { value: self.decode(columns[columns.len().min(2) - 1])?, ..Default::default() };
        if columns.len() > 1 {
            record.key = self.decode(columns[0])?;
        }
        for header in columns.get(2).unwrap_or(&"").split(',').filter(|h| self.hex && !h.is_empty()) {
            let (key, value) = header.split_once('=').ok_or("a header is name=HEX")?;
            record.headers.push(Header { key: key.into(), value: self.decode(value)? });
        }
        Ok(record)
    }

    fn show(&self, record: &Record) -> String {
        let mut columns = vec![self.encode(&record.key), self.encode(&record.value)];
        if self.hex {
            let headers: Vec<_> =
                record.headers.iter().map(|h| format!("{}={}", h.key, self.encode(&h.value))).collect();
            columns.push(headers.join(","));
        }
        columns.join("\t")
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let hex = args.iter().position(|a| a == "--hex").map(|i| args.remove(i)).is_some();
    let address = args.iter().position(|a| a == "--address").map(|i| args.drain(i..i + 2).last().unwrap_or_default());
    let address = address.unwrap_or_else(|| "127.0.0.1:9192".into());
    let channel = Channel::from_shared(format!("http://{address}"))?.timeout(Duration::from_secs(10)).connect_lazy();
    let client = Client {
        data: DataServiceClient::new(channel.clone()),
        admin: AdminServiceClient::new(channel.clone()),
        groups: GroupServiceClient::new(channel),
        hex,
    };
    let verb: Vec<&str> = args.iter().map(String::as_str).collect();
    match verb[..] {
        ["create-topic", topic, n, rf] => client.create_topic(topic, n.parse()?, rf.parse()?).await,
        ["produce", topic] => client.produce(topic).await,
        ["consume", topic, p, at, n] => client.consume(topic, p.parse()?, at.parse()?, n.parse()?).await,
        ["group", group, topic, idle] => client.group(group, topic, Duration::from_millis(idle.parse()?)).await,
        ["segment", path] => client.segment(path),
        ["errors", topic] => client.errors(topic).await,
        _ => Err("usage: see examples/README.md".into()),
    }
}
