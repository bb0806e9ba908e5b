//! The disk is full.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::rules::{FILTER, OWN_QUEUE};
use super::scene::Scene;
use super::seed::either;
use super::server::PATIENCE;

#[test]
fn the_disk_is_full() {
    let mut scene = Scene::new("disk_full");
    let folder = scene.server.folder.to_str().unwrap().to_owned();
    // A small disk that only the server sees, and that goes with it.
    let script = format!("mount -t tmpfs -o size=24m tmpfs '{folder}' && cd '{folder}' && exec \"$@\"");
    let mut wrapper = own_mounts();
    wrapper.extend(["sh", "-c", &script, "sh"]);
    scene.server.wrapped(&wrapper);
    scene.prepare();
    scene.results = PathBuf::from(format!("/proc/{}/root{folder}", scene.server.process()));
    scene.publish();
    let (times, full) = (either(2, 10), either(10, 60));
    for _ in 0..times {
        scene.flow(400);
        // What waits for the receiver would go to the disk, and cannot.
        scene.http.as_mut().unwrap().away();
        scene.doubt(&OWN_QUEUE, 1);
        let ballast = scene.results.join("ballast");
        fill(&ballast);
        let full_since = Instant::now();
        loop {
            let status = scene.server.status(FILTER.id).unwrap_or_default();
            if status.to_string().contains("the disk is full") {
                break;
            }
            assert!(
                full_since.elapsed() < PATIENCE / 2,
                "no word of the full disk: {status:#}\n{}",
                scene.server.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        scene.pass(1_000 * full);
        fs::remove_file(ballast).unwrap();
        scene.http.as_mut().unwrap().here();
        scene.strikes += 1;
    }
    scene.flow(400);
    scene.finish(&format!("full {times} times for {full} s"));
}

/// The command that gives a program mounts of its own: as root, or as one who looks like root to itself.
fn own_mounts() -> Vec<&'static str> {
    let works = |command: &[&str]| {
        let probe =
            Command::new(command[0]).args(&command[1..]).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
        probe.is_ok_and(|output| output.status.success())
    };
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--mount", "--map-root-user"]];
    let way = ways.into_iter().find(|way| works(way));
    way.expect("this test needs `unshare`, and a system that lets it mount").to_vec()
}

/// Takes all the space that there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        if file.write_all(&vec![b'x'; size]).is_err() {
            size /= 2;
        }
    }
}
