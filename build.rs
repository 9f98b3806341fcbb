//! Generates the messages, the service and the JSON form from the contract under `proto/`, with neither a protoc
//! nor the network, and notes the git revision.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    generate()?;
    note_revision();
    Ok(())
}

fn generate() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file("intentd/v1/nlu.proto")?;
    let encoded = compiler.encode_file_descriptor_set();

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is unset: run this through cargo")?);
    std::fs::write(out.join("descriptors.bin"), &encoded)?;

    // Maps are ordered, so that equal answers are equal bytes. The well-known types are those of pbjson, which have
    // a JSON form; without compile_well_known_types prost would insist on its own.
    tonic_prost_build::configure()
        .btree_map(".")
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(compiler.file_descriptor_set())?;
    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .btree_map(["."])
        .extern_path(".google.protobuf", "::pbjson_types")
        .emit_fields()
        .preserve_proto_field_names()
        .build(&[".intentd.v1"])?;
    Ok(())
}

/// Sets INTENTD_REVISION for the crate: from the environment of a packager, else from git.
fn note_revision() {
    println!("cargo::rerun-if-env-changed=INTENTD_REVISION");
    let revision = std::env::var("INTENTD_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = revision.or_else(git_revision).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=INTENTD_REVISION={revision}");
}

fn git_revision() -> Option<String> {
    // Unpacked sources inside some other repository must not take that one's revision.
    if !Path::new(".git").exists() {
        return None;
    }
    // A commit changes a file under refs/heads, a checkout changes HEAD. A path that doesn't exist would make
    // cargo run this each time.
    for name in ["HEAD", "refs/heads", "packed-refs"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
