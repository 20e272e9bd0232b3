mod v1 {
    tonic::include_proto!("ottla.v1");
}
use v1::{data_service_client::DataServiceClient, record_batch::Payload, *};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (address, topic) = (format!("http://{}", args[1]), args[2].clone());
    let mut data = DataServiceClient::connect(address).await?;

    let record = SendRecord { key: Some(b"k".to_vec()), value: Some(b"hello".to_vec()), ..Default::default() };
    let request = SendRequest { topic: topic.clone(), records: vec![record], ..Default::default() };
    let sent = data.send(request).await?.into_inner();
    println!("stored at offset {}", sent.results[0].offset);

    let position = FetchPartition { topic, offset: -2, ..Default::default() };
    let request = FetchRequest { partitions: vec![position], ..Default::default() };
    let read = data.fetch(request).await?.into_inner();
    for batch in &read.partitions[0].batches {
        let Some(Payload::Records(records)) = &batch.payload else { continue };
        for record in &records.records {
            println!("{} {}", String::from_utf8_lossy(record.key()), String::from_utf8_lossy(record.value()));
        }
    }
    Ok(())
}
