//! What it costs to have messages safely on the disk: `cargo bench --bench store`. For several lengths of a batch, with
//! `fdatasync` after each batch and without: messages a second, CPU apart from the waiting for the disk, and reading
//! them back. The folder is `target`'s, so that it lies on a disk and not in memory.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use kuiper::store::{Log, LogOptions, Sync};

/// Bytes of a message.
const LENGTH: usize = 120;

fn main() {
    println!("{:<8} {:<8} {:>12} {:>12} {:>12}", "sync", "batch", "written/s", "us a batch", "read/s");
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for sync in [Sync::Always, Sync::Never] {
        for batch in [1_usize, 16, 256, 4096] {
            let folder = home.path().join(format!("{sync:?}-{batch}"));
            let (mut log, _) = Log::open(&folder, LogOptions { sync, ..LogOptions::default() }).unwrap();
            let message = [7; LENGTH];
            let (watch, mut batches) = (Instant::now(), 0_u32);
            while watch.elapsed() < Duration::from_secs(2) {
                for _ in 0..batch {
                    log.append(&message).unwrap();
                }
                log.sync().unwrap();
                batches += 1;
                if batches.is_multiple_of(64) {
                    // As a rule does whose results are confirmed; a disk is not to be filled.
                    log.drop_before(log.next().saturating_sub(500_000)).unwrap();
                }
            }
            let written = watch.elapsed();
            let (watch, mut read, mut reader) = (Instant::now(), 0_u64, log.read(0).unwrap());
            while reader.next().unwrap().is_some() {
                read += 1;
            }
            println!(
                "{:<8} {batch:<8} {:>12.0} {:>12.1} {:>12.0}",
                format!("{sync:?}"),
                (log.next() - 1) as f64 / written.as_secs_f64(),
                written.as_secs_f64() * 1e6 / f64::from(batches),
                read as f64 / watch.elapsed().as_secs_f64(),
            );
        }
    }
}
