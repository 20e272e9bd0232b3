fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["admin", "data", "group"].map(|name| format!("../../proto/ottla/v1/{name}.proto"));
    tonic_prost_build::configure().build_server(false).compile_protos(&protos, &["../../proto".to_string()])?;
    Ok(())
}
