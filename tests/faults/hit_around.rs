//! What stands around the server is hit: brokers, the database, what listens at the other end, and the wires between.

use std::time::Duration;

use super::broker::Broker;
use super::mqtt::Collector;
use super::rules::{FAN_HTTP, FAN_QUEUE, FAN_SQL};
use super::scene::{Duty, RATE, Scene};
use super::seed::either;
use super::server::wait_for;
use super::wire::{Way, Wire};

#[test]
fn both_brokers_are_stopped_for_a_while() {
    both_stopped("broker_stopped");
}

#[test]
fn both_brokers_are_stopped_for_a_while_in_version_five() {
    both_stopped("broker_stopped_v5");
}

fn both_stopped(name: &'static str) {
    let mut scene = Scene::new(name);
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
    forgets("broker_forgets");
}

#[test]
fn a_broker_without_persistence_is_killed_in_version_five() {
    forgets("broker_forgets_v5");
}

fn forgets(name: &'static str) {
    let mut scene = Scene::with(name, Broker::start(false));
    scene.duty = Duty::Acknowledged;
    let mut control = Control::before(&scene.from);
    scene.begin();
    let times = either(6, 60);
    for round in 0..times {
        scene.flow(300);
        control.keep_up(&scene);
        let seen: Vec<u64> = scene.ins.values().map(Wire::subscriptions).collect();
        let own = control.wire.subscriptions();
        if round % 2 == 0 {
            // What the broker keeps for those who are away goes with it, for the control as for the server.
            scene.ins.values().chain([&control.wire]).for_each(|wire| wire.close(true));
            control.cuts.push(scene.publishers[0].next());
            scene.flow(100);
        }
        scene.from.kill();
        scene.publishers.iter().for_each(|publisher| publisher.pause(true));
        control.cuts.push(scene.publishers[0].next());
        scene.ins.values().chain([&control.wire]).for_each(|wire| wire.close(false));
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
    control.compare(&mut scene);
    scene.finish(&format!("killed and started again with nothing, {times} times"));
}

/// A client with a session of its own that acknowledges at once, and that loses its connections when the server does: what
/// it does not see, the broker has lost.
struct Control {
    wire: Wire,
    collector: Collector,
    /// The number that was next when connections were lost.
    cuts: Vec<i64>,
}

impl Control {
    fn before(broker: &Broker) -> Control {
        let wire = Wire::before(broker.port);
        let collector = Collector::start(wire.port, "control", "numbers");
        wait_for("the control", || collector.subscribed());
        Control { wire, collector, cuts: Vec::new() }
    }

    /// Waits until no stream is further behind than half of what is published in a second: what a server that is slow has
    /// left with the broker, goes with it.
    fn keep_up(&self, scene: &Scene) {
        wait_for("the streams to keep up", || {
            let streams = scene.ins.iter().filter(|(stream, _)| *stream != "join_two").map(|(_, wire)| wire);
            let last = |wire: &Wire| wire.account().down.passed.last_key_value().map_or(-1, |(last, _)| *last);
            let slowest = streams.chain([&self.wire]).map(last).min().unwrap_or(-1);
            scene.publishers[0].next() - slowest <= i64::from(RATE) / 2
        });
    }

    /// Each number that the broker had taken and never gave to a stream of the server was lost by the broker: the control
    /// has not seen it either, or it was published in the last second before the connections ended, when the one had got
    /// further than the other. A subscription or a session that the server lets lapse would miss others, too.
    fn compare(&self, scene: &mut Scene) {
        let numbers = scene.publishers[0].stop();
        wait_for("the control to have the last", || {
            let last = numbers.taken.last().copied().unwrap_or(0);
            self.collector.rows_from(0).iter().any(|(_, row)| *row == format!("{{\"id\":{last}}}"))
        });
        // A stream that waits for its rule gets the rest later.
        let last = numbers.taken.last().copied().unwrap_or(0);
        let streams: Vec<&String> = scene.ins.keys().filter(|stream| *stream != "join_two").collect();
        wait_for("the streams to have the last", || {
            streams.iter().all(|stream| scene.ins[*stream].account().down.passed.contains_key(&last))
        });
        let seen = self.wire.account().down.passed;
        let lost = numbers.taken.iter().filter(|number| !seen.contains_key(number)).count();
        println!("{}: the broker lost {lost} of the control's {} messages", scene.name, numbers.taken.len());
        assert!(lost > 0, "it was to lose what it kept for those who were away");
        for stream in streams {
            let down = scene.ins[stream].account().down;
            let missed: Vec<i64> =
                numbers.taken.iter().filter(|number| !down.passed.contains_key(number)).copied().collect();
            let alone: Vec<i64> = missed.iter().filter(|number| seen.contains_key(number)).copied().collect();
            println!(
                "{}: {stream} was never given {} of them, {} of which the control was given",
                scene.name,
                missed.len(),
                alone.len()
            );
            let late = |number: &&i64| self.cuts.iter().any(|next| (next - i64::from(RATE)..*next).contains(number));
            let strange: Vec<&i64> = alone.iter().filter(|number| !late(number)).take(10).collect();
            assert!(strange.is_empty(), "{stream} was never given {strange:?}, and the control was");
        }
    }
}

#[test]
fn the_database_is_killed() {
    let mut scene = Scene::new("database_killed");
    scene.begin();
    let times = either(3, 30);
    for _ in 0..times {
        scene.flow(300);
        // The answer to the commit of what is on its way may be cut off; what comes until the kill is on its way too.
        let before = scene.under_way(&FAN_SQL);
        scene.database.as_mut().unwrap().kill();
        scene.doubt(&FAN_SQL, before.max(scene.under_way(&FAN_SQL)));
        let down = scene.chance.between(1_000, 8_000);
        scene.pass(down);
        scene.database.as_mut().unwrap().again();
    }
    scene.flow(300);
    scene.finish(&format!("killed {times} times"));
}

#[test]
fn sinks_refuse() {
    let mut scene = Scene::new("sink_refuses");
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
    let mut scene = Scene::new("slow_sink");
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
    cut("cut_in_packet");
}

#[test]
fn connections_are_cut_in_the_middle_of_a_packet_of_version_five() {
    cut("cut_in_packet_v5");
}

fn cut(name: &'static str) {
    let mut scene = Scene::new(name);
    scene.begin();
    let times = either(30, 500);
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
