use serde_json::json;

use super::*;

fn read(written: Json) -> (Options, Vec<String>) {
    let mut found = Vec::new();
    let options = Options::read(&Map::new(), written.as_object().unwrap(), &mut found);
    (options, found.iter().map(ToString::to_string).collect())
}

#[test]
fn written_beats_default() {
    let mut found = Vec::new();
    let defaults = json!({"sendError": true, "bufferLength": 5, "concurrency": 1, "checkpointInterval": "5m"});
    let written = json!({"SENDERROR": false, "qos": 1, "overflow": "drop"});
    let options = Options::read(defaults.as_object().unwrap(), written.as_object().unwrap(), &mut found);
    assert!(found.is_empty(), "{found:?}");
    let expected = Options { buffer: 5, qos: 1, overflow: Overflow::Drop, ..Options::default() };
    assert_eq!(options, expected);
}

#[test]
fn snapshots_are_taken_as_often_as_is_written() {
    let (options, found) = read(json!({"qos": 2, "checkpointInterval": "60s", "enableSaveStateBeforeStop": true}));
    assert_eq!((options.qos, options.checkpoint, found), (2, Duration::from_secs(60), vec![]));
    assert_eq!(read(json!({"checkpointInterval": 1500})).0.checkpoint, Duration::from_millis(1500));
}

#[test]
fn event_time_takes_durations_as_text_and_as_milliseconds() {
    let (options, found) = read(json!({"isEventTime": true, "lateTolerance": "1m30s", "idleTimeout": 2500}));
    assert_eq!((options.is_event_time, found), (true, vec![]));
    assert_eq!(options.event_time.tolerance, Duration::from_secs(90));
    assert_eq!(options.event_time.patience, Some(Duration::from_millis(2500)));
}

#[test]
fn all_that_clients_write_by_default_is_accepted() {
    let (options, found) = read(json!({
        "debug": false, "logFilename": "", "isEventTime": false, "lateTolerance": 1000, "concurrency": 1,
        "bufferLength": 1024, "sendMetaToSink": false, "sendNilField": false, "sendError": false, "qos": 0,
        "checkpointInterval": 300000, "cron": "", "duration": "", "cronDatetimeRange": null,
        "restartStrategy": {"attempts": 0, "delay": 1000, "multiplier": 2, "maxDelay": 30000, "jitterFactor": 0.1},
        "planOptimizeStrategy": {"windowOption": {"windowVersion": ""}}, "notifySub": false,
        "disableBufferFullDiscard": false, "enableSaveStateBeforeStop": false, "forceExitTimeout": 0,
        "experiment": {"useSliceTuple": false},
    }));
    assert_eq!((options, found), (Options::default(), vec![]));
}

#[test]
fn schedules_and_restarts_are_read() {
    let (options, found) = read(json!({
        "cron": "TZ=Asia/Tokyo 0 6 * * mon-fri", "duration": "1h30m", "stallTimeout": "2m",
        "cronDatetimeRange": [{"begin": "2024-01-01 00:00:00", "end": "2024-12-31 00:00:00"}],
        "restartStrategy": {"attempts": 3, "delay": "2s", "multiplier": 1.5, "maxDelay": 60000, "jitterFactor": 0},
    }));
    assert_eq!(found, [""; 0]);
    assert_eq!(options.schedule.cron, Cron::parse("TZ=Asia/Tokyo 0 6 * * mon-fri").ok());
    assert_eq!(options.schedule.length, Some(Duration::from_secs(5400)));
    assert_eq!((options.schedule.ranges.len(), options.stall), (1, Some(Duration::from_secs(120))));
    let (delay, longest) = (Duration::from_secs(2), Duration::from_secs(60));
    assert_eq!(options.restart, Restart { attempts: 3, delay, multiplier: 1.5, longest, jitter: 0.0 });
    assert_eq!(read(json!({"stallTimeout": 0})).0.stall, None);
    // What the server's defaults say is taken back by what is empty.
    let mut found = Vec::new();
    let defaults = json!({"cron": "@daily", "duration": "1h", "cronDatetimeRange": []});
    let written = json!({"cron": "", "duration": ""});
    let options = Options::read(defaults.as_object().unwrap(), written.as_object().unwrap(), &mut found);
    assert_eq!((options.schedule, found), (Schedule::default(), vec![]));
}

#[test]
fn what_is_not_there_yet_is_refused_in_one_sentence() {
    let (_, found) = read(json!({"logFilename": "a.log"}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("log files") && found[0].contains("this version does not have"), "{found:?}");
}

#[test]
fn what_has_no_effect_is_told() {
    for (written, why) in [
        (
            json!({"planOptimizeStrategy": {"enableAliasPushdown": true}}),
            "option `planOptimizeStrategy.enableAliasPushdown` has no effect: ",
        ),
        (json!({"concurrency": 4}), "option `concurrency` has no effect: one task carries a rule"),
        (json!({"forceExitTimeout": "1s"}), "option `forceExitTimeout` has no effect: "),
        (json!({"restartStrategy": {"delay": 5}}), "option `restartStrategy.delay` has no effect: "),
        (json!({"restartStrategy": {"multiplier": 3}}), "option `restartStrategy.multiplier` has no effect: "),
        (json!({"restartStrategy": {"maxDelay": "1m"}}), "option `restartStrategy.maxDelay` has no effect: "),
        (json!({"restartStrategy": {"jitterFactor": 0.2}}), "option `restartStrategy.jitterFactor` has no effect: "),
        (json!({"cron": "0 * * * *"}), "option `cron` has no effect: "),
        (json!({"experiment": {"useSliceTuple": true}}), "option `experiment.useSliceTuple` has no effect: "),
        (json!({"debug": true}), "option `debug` has no effect: "),
        (json!({"enableRuleTracer": true}), "option `enableRuleTracer` has no effect: "),
        (json!({"bufferLength": 5}), "option `bufferLength` has no effect: "),
        (json!({"lateTolerance": "5s"}), "option `lateTolerance` has no effect: "),
        (json!({"idleTimeout": 100}), "option `idleTimeout` has no effect: "),
    ] {
        let mut found = Vec::new();
        Options::read(&Map::new(), written.as_object().unwrap(), &mut found);
        assert_eq!(found.len(), 1, "{written}: {found:?}");
        assert!(!found[0].is_error() && found[0].to_string().starts_with(why), "{written}: {}", found[0]);
    }
}

#[test]
fn mistakes_name_the_option_and_the_remedy() {
    for (written, expected) in [
        (json!({"sendEror": true}), "there is no option `sendEror` (did you mean `sendError`?)"),
        (json!({"bufferLength": 0}), "invalidBufferLength:option `bufferLength` is `0`, expected a number above 0"),
        (json!({"concurrency": -1}), "invalidConcurrency:option `concurrency` is `-1`, expected a number above 0"),
        (
            json!({"lateTolerance": -1}),
            "invalidLateTol:option `lateTolerance` is `-1`, expected a duration, for example \"10s\", or a number of milliseconds",
        ),
        (json!({"qos": "1"}), "option `qos` is `\"1\"`, expected a whole number"),
        (json!({"qos": 3}), "option `qos` is `3`, expected 0, 1 or 2"),
        (
            json!({"planOptimizeStrategy": {"windowOption": {"windowVersion": "v3"}}}),
            "option `planOptimizeStrategy.windowOption.windowVersion` is `\"v3\"`, expected `v1` or `v2`",
        ),
        (json!({"overflow": "block"}), "option `overflow` is `\"block\"`, expected `wait` or `drop`"),
        (
            json!({"cron": "0 6 * *", "duration": "1h"}),
            "option `cron` is `\"0 6 * *\"`, which is no schedule: expected 5 fields (minute, hour, day of the month, month, day of the week), found 4",
        ),
        (
            json!({"duration": "-1h"}),
            "option `duration` is `\"-1h\"`, expected a duration above 0, for example \"1h30m\"",
        ),
        (
            json!({"cronDatetimeRange": [{"begin": "2024-01-02 00:00:00", "end": "2024-01-01 00:00:00"}]}),
            "validate cronDatetimeRange failed, err:begin time shouldn't after end time",
        ),
        (
            json!({"restartStrategy": {"attempts": -1}}),
            "invalidRestartAttempts:option `restartStrategy.attempts` is `-1`, expected a whole number, 0 or above",
        ),
        (
            json!({"restartStrategy": {"delay": 0}}),
            "invalidRestartDelay:option `restartStrategy.delay` is `0`, expected a duration above 0",
        ),
        (
            json!({"restartStrategy": {"multiplier": 0.5}}),
            "invalidRestartMultiplier:option `restartStrategy.multiplier` is `0.5`, expected a number of at least 1",
        ),
        (
            json!({"restartStrategy": {"maxDelay": 0}}),
            "invalidRestartMaxDelay:option `restartStrategy.maxDelay` is `0`, expected a duration above 0",
        ),
        (
            json!({"restartStrategy": {"jitterFactor": 1}}),
            "invalidRestartJitterFactor:option `restartStrategy.jitterFactor` is `1`, expected a number from 0 up to 1, without 1",
        ),
        (json!({"restartStrategy": 3}), "option `restartStrategy` is `3`, expected an object"),
        (
            json!({"restartStrategy": {"atempts": 3}}),
            "there is no option `restartStrategy.atempts` (did you mean `restartStrategy.attempts`?)",
        ),
    ] {
        assert_eq!(read(written).1, [expected]);
    }
}
