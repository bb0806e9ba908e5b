//! The server itself is hit: killed at random moments, frozen, its clock stepped, its guests mad.

use super::rules::{FAN_HTTP, FAN_QUEUE, FAN_SQL, GUEST, PLAIN, and};
use super::scene::Scene;
use super::seed::{either, kills};
use super::server::wait_for;

#[test]
fn the_server_is_killed_at_random_moments() {
    let mut scene = Scene::new("kill_9", &and(&[FAN_SQL, FAN_HTTP, FAN_QUEUE]));
    scene.begin();
    scene.flow(200);
    for _ in 0..kills() {
        let (up, down) = (scene.chance.between(300, 2_000), scene.chance.below(300));
        scene.pass(up);
        scene.kill(down);
    }
    scene.pass(1_000);
    scene.finish(&format!("{} kills", kills()));
}

#[test]
fn the_server_is_frozen() {
    let mut scene = Scene::new("frozen", PLAIN);
    scene.begin();
    let frozen = either(30, 180);
    scene.flow(400);
    scene.server.signal("STOP");
    scene.pass(1_000 * frozen);
    scene.server.signal("CONT");
    scene.flow(400);
    scene.finish(&format!("SIGSTOP for {} s", frozen));
}

#[test]
fn the_wall_clock_is_stepped() {
    let mut scene = Scene::new("clock_stepped", PLAIN);
    let file = scene.server.folder.join("clock");
    let step = |by: &str| {
        let new = file.with_extension("new");
        std::fs::write(&new, by).unwrap();
        std::fs::rename(new, &file).unwrap();
    };
    step("+0\n");
    for (name, value) in [
        ("LD_PRELOAD", faketime().as_str()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ] {
        scene.server.setting(name, value);
    }
    scene.begin();
    let steps = ["+7", "+3", "+3600", "+3590", "-86400", "+0", "-7"];
    for by in steps {
        scene.flow(500);
        step(&format!("{by}\n"));
        scene.strikes += 1;
    }
    scene.flow(500);
    scene.finish(&format!("offsets of {} seconds from the true time", steps.join(", ")));
}

/// The library that changes the time of one program.
fn faketime() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let library = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    library.expect("this test needs libfaketime").to_str().unwrap().to_owned()
}

#[test]
fn the_server_is_told_to_end_and_started_again() {
    let mut scene = Scene::new("ended", PLAIN);
    scene.begin();
    let times = either(15, 300);
    scene.flow(200);
    for _ in 0..times {
        let up = scene.chance.between(300, 2_000);
        scene.pass(up);
        scene.server.stop();
        scene.strikes += 1;
        scene.server.again();
    }
    scene.pass(1_000);
    scene.finish(&format!("SIGTERM {times} times"));
}

#[test]
fn a_plugin_panics_and_crashes() {
    let mut scene = Scene::new("plugin", &and(&[GUEST]));
    scene.begin();
    let times = either(4, 100);
    for _ in 0..times {
        scene.flow(700);
        std::fs::write(scene.server.folder.join("crash"), "").unwrap();
        wait_for("the crash", || scene.server.has_ended());
        scene.strikes += 1;
        scene.server.again();
    }
    // The last panics are in the account of the rule.
    scene.flow(700);
    scene.finish(&format!("a function panics at each 500th number, and ends the process {times} times"));
}
