//! The server itself is hit: killed at random moments, frozen, its clock stepped, its guests mad.

use std::time::{Duration, Instant};

use super::scene::Scene;
use super::seed::{either, kills};
use super::server::wait_for;

#[test]
fn the_server_is_killed_at_random_moments() {
    killed("kill_9", kills());
}

#[test]
fn the_server_is_killed_at_random_moments_in_version_five() {
    killed("kill_9_v5", kills() / 2);
}

/// Each kind of sink behind a stream that no other rule reads, and behind windows.
#[test]
fn the_server_is_killed_with_each_kind_of_rule_before_each_kind_of_sink() {
    killed("kill_9_own", kills() / 2);
}

fn killed(name: &'static str, times: u64) {
    let mut scene = Scene::new(name);
    scene.begin();
    scene.flow(200);
    for _ in 0..times {
        let (up, down) = (scene.chance.between(300, 2_000), scene.chance.below(300));
        scene.pass(up);
        scene.kill(down);
    }
    scene.pass(1_000);
    scene.finish(&format!("{times} kills"));
}

/// What a rule has in its journal and what it has in its queue go together, whatever is killed while the queue fills, lies
/// still, and is sent.
#[test]
fn the_server_is_killed_while_a_queue_fills_and_empties() {
    let mut scene = Scene::new("queue_killed");
    scene.begin();
    let times = either(10, 150);
    scene.flow(200);
    for round in 0..times {
        match round % 2 {
            0 => scene.http.as_mut().unwrap().away(),
            _ => scene.http.as_mut().unwrap().here(),
        }
        // The answers to what was posted last may have been cut off.
        scene.rules.clone().iter().for_each(|rule| scene.doubt(rule, 1));
        for _ in 0..2 {
            let (up, down) = (scene.chance.between(300, 2_500), scene.chance.below(300));
            scene.pass(up);
            scene.kill(down);
        }
    }
    scene.pass(1_000);
    scene.finish(&format!("{} kills, and the receiver goes and comes {times} times", 2 * times));
}

#[test]
fn the_server_is_frozen() {
    let mut scene = Scene::new("frozen");
    scene.begin();
    let frozen = either(30, 180);
    scene.flow(400);
    // So that it is stopped while confirmations are on their way.
    scene.outs["pass"].slow(Duration::from_millis(3));
    scene.flow(100);
    scene.server.signal("STOP");
    scene.pass(1_000 * frozen);
    scene.server.signal("CONT");
    scene.flow(100);
    scene.outs["pass"].slow(Duration::ZERO);
    scene.flow(400);
    scene.finish(&format!("SIGSTOP for {} s", frozen));
}

#[test]
fn the_wall_clock_is_stepped() {
    let mut scene = Scene::new("clock_stepped");
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

/// A rule that ends waits longer than this for the confirmations of its sinks, and a source for the last acknowledgements.
const SETTLED: Duration = Duration::from_millis(1_500);

#[test]
fn the_server_is_told_to_end_and_started_again() {
    let mut scene = Scene::new("ended");
    scene.begin();
    let (times, mut slowest) = (either(15, 300), Duration::ZERO);
    scene.flow(200);
    for _ in 0..times {
        let up = scene.chance.between(300, 2_000);
        scene.pass(up);
        let begun = Instant::now();
        scene.server.stop();
        let took = begun.elapsed();
        slowest = slowest.max(took);
        // What a sink did not confirm in time is given to it again, as after a kill.
        if took < SETTLED {
            scene.strikes += 1;
        } else {
            scene.killed();
        }
        scene.server.again();
    }
    scene.pass(1_000);
    // What the rules had taken was delivered and acknowledged before the end: the broker gave only the rest again.
    scene.settled = slowest < SETTLED;
    scene.finish(&format!("SIGTERM {times} times, the end took {slowest:.0?} at most"));
}

#[test]
fn a_plugin_panics_and_crashes() {
    let mut scene = Scene::new("plugin");
    scene.begin();
    let times = either(4, 100);
    for time in 1..=times {
        scene.flow(700);
        std::fs::write(scene.server.folder.join("crash"), "").unwrap();
        wait_for("the crash", || scene.server.has_ended());
        scene.killed();
        scene.server.again();
        // After three deaths it is for the user to try once more.
        if time % 3 == 0 {
            wait_for("the rule to be held back", || {
                let status = scene.server.status("guest").unwrap_or_default();
                status["status"] == "stopped" && status["message"].to_string().contains("the server died 3 times")
            });
            scene.server.ask("POST", "/rules/guest/start", "");
        }
    }
    // The last panics are in the account of the rule.
    scene.flow(700);
    scene.finish(&format!("a function panics at each 500th number, and ends the process {times} times; the third time its rule is left stopped"));
}
