//! What stands around the server is hit: brokers, the database, what listens at the other end, and the wires between.

use std::time::Duration;

use super::broker::Broker;
use super::mqtt::Collector;
use super::rules::{FAN_HTTP, FAN_QUEUE, FAN_SQL, PLAIN, and};
use super::scene::{Duty, Scene};
use super::seed::either;
use super::server::wait_for;
use super::wire::{Way, Wire};

#[test]
fn both_brokers_are_stopped_for_a_while() {
    let mut scene = Scene::new("broker_stopped", PLAIN);
    scene.begin();
    scene.flow(400);
    let away = either(20, 180);
    scene.from.stop();
    scene.pass(1_000 * away);
    scene.from.again();
    scene.flow(400);
    scene.to.stop();
    scene.pass(1_000 * away);
    scene.to.again();
    scene.flow(400);
    scene.finish(&format!("the source's broker, then that of the sinks, is away for {} s", away));
}

#[test]
fn a_broker_without_persistence_is_killed() {
    let mut scene = Scene::with("broker_forgets", PLAIN, Broker::start(false));
    scene.duty = Duty::Acknowledged;
    let control = Control::before(&scene.from);
    scene.begin();
    let times = either(6, 60);
    for _ in 0..times {
        scene.flow(300);
        let seen: Vec<u64> = scene.ins.values().map(Wire::subscriptions).collect();
        scene.from.kill();
        let own = control.wire.subscriptions();
        scene.publishers.iter().for_each(|publisher| publisher.pause(true));
        let down = scene.chance.between(200, 2_000);
        scene.pass(down);
        scene.from.again();
        // What is published before a session is there again is lost by the broker alone.
        wait_for("the subscriptions", || {
            let again = scene.ins.values().zip(&seen).all(|(wire, seen)| wire.subscriptions() > *seen);
            again && control.wire.subscriptions() > own
        });
        scene.publishers.iter().for_each(|publisher| publisher.pause(false));
    }
    scene.flow(300);
    control.compare(&mut scene, times * IN_FLIGHT);
    scene.finish(&format!("killed and started again with nothing, {times} times"));
}

/// Messages that mosquitto sends before the first is acknowledged.
const IN_FLIGHT: u64 = 20;

/// A client with a session of its own that acknowledges at once: what it does not see, the broker has lost.
struct Control {
    wire: Wire,
    collector: Collector,
}

impl Control {
    fn before(broker: &Broker) -> Control {
        let wire = Wire::before(broker.port);
        let collector = Collector::start(wire.port, "control", "numbers");
        wait_for("the control", || collector.subscribed());
        Control { wire, collector }
    }

    /// What the broker forgot of what it should have given to a rule is at most what it forgot of the control, what was on
    /// its way to the one and not to the other, and what had left it and not reached the wire.
    fn compare(&self, scene: &mut Scene, unseen: u64) {
        let numbers = scene.publishers[0].stop();
        wait_for("the control to have the last", || {
            let last = numbers.taken.last().copied().unwrap_or(0);
            self.collector.rows_from(0).iter().any(|row| *row == format!("{{\"id\":{last}}}"))
        });
        let seen = self.wire.account().down.acknowledged;
        let lost = numbers.taken.iter().filter(|number| !seen.contains(number)).count() as u64;
        println!("{}: the broker lost {lost} of the control's {} messages", scene.name, numbers.taken.len());
        for (stream, wire) in &scene.ins {
            let down = wire.account().down;
            if stream == "join_two" {
                continue;
            }
            let forgotten = numbers.taken.iter().filter(|number| !down.acknowledged.contains(number)).count() as u64;
            let allowed = lost + down.unacknowledged + unseen;
            assert!(forgotten <= allowed, "{stream}: {forgotten} were never acknowledged, expected at most {allowed}");
        }
    }
}

#[test]
fn the_database_is_killed() {
    let mut scene = Scene::new("database_killed", &and(&[FAN_SQL]));
    scene.begin();
    let times = either(3, 30);
    for _ in 0..times {
        scene.flow(300);
        scene.database.as_mut().unwrap().kill();
        scene.database_killed(&FAN_SQL);
        let down = scene.chance.between(1_000, 8_000);
        scene.pass(down);
        scene.database.as_mut().unwrap().again();
    }
    scene.flow(300);
    scene.finish(&format!("killed {times} times"));
}

#[test]
fn sinks_refuse() {
    let mut scene = Scene::new("sink_refuses", &and(&[FAN_HTTP, FAN_QUEUE]));
    scene.begin();
    scene.flow(300);
    let away = either(10, 120);
    for wire in scene.outs.values() {
        wire.close(true);
    }
    scene.http.as_ref().unwrap().answer(503);
    scene.pass(1_000 * away);
    for wire in scene.outs.values() {
        wire.close(false);
    }
    scene.http.as_ref().unwrap().answer(200);
    scene.flow(300);
    scene.http.as_mut().unwrap().away();
    // The answer to what was posted last may have been cut off.
    scene.doubt(&FAN_HTTP, 1);
    scene.doubt(&FAN_QUEUE, 1);
    scene.pass(1_000 * away);
    scene.http.as_mut().unwrap().here();
    scene.flow(300);
    let refused = scene.http.as_ref().unwrap().refused();
    assert!(refused > 0, "nothing was refused");
    let what =
        format!("503 {refused} times and no connection to the broker in {away} s, then no one listens for {away} s");
    scene.finish(&what);
}

#[test]
fn sinks_are_slow() {
    let mut scene = Scene::new("slow_sink", &and(&[FAN_HTTP, FAN_QUEUE]));
    scene.begin();
    scene.flow(300);
    let slow = either(20, 180);
    scene.http.as_ref().unwrap().slow(Duration::from_secs(1));
    scene.outs["pass"].slow(Duration::from_secs(1));
    scene.pass(1_000 * slow);
    scene.http.as_ref().unwrap().slow(Duration::ZERO);
    scene.outs["pass"].slow(Duration::ZERO);
    scene.flow(300);
    scene.finish(&format!("one message a second for {} s", slow));
}

#[test]
fn connections_are_cut_in_the_middle_of_a_packet() {
    let mut scene = Scene::new("cut_in_packet", PLAIN);
    scene.begin();
    let times = either(40, 1_000);
    let names: Vec<String> = scene.ins.keys().cloned().collect();
    let outs: Vec<&'static str> = scene.outs.keys().copied().collect();
    for _ in 0..times {
        scene.flow(60);
        let which = scene.chance.below((names.len() + outs.len()) as u64) as usize;
        let where_to = scene.chance.below(1_000) as usize;
        let (wire, way) = match names.get(which) {
            Some(name) => (&scene.ins[name], Way::Down),
            None => (&scene.outs[outs[which - names.len()]], Way::Up),
        };
        wire.cut_within(way, where_to);
        wait_for("the cut", || wire.was_cut());
    }
    scene.flow(200);
    scene.finish(&format!("{times} cuts, of sources and of sinks"));
}
