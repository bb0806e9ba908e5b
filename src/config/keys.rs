//! The names of all settings.

/// Settings that have a meaning here; each stands in the built-in file.
pub(super) const HONOURED: &[&str] = &[
    "basic.logLevel",
    "basic.debug",
    "basic.timezone",
    "basic.ignoreCase",
    "basic.restIp",
    "basic.restPort",
    "basic.data",
    "basic.gracefulShutdownTimeout",
    "basic.rulePatrolInterval",
    "basic.prometheus",
    "basic.prometheusPort",
    "basic.allowExternalFileAccess",
    "basic.downloadMaxBytes",
    "basic.downloadTimeout",
    "plugins.allowInstallScript",
    "plugins.installScriptTimeout",
    "plugins.trustedKeys",
    "basic.enablePrivateNet",
    "rule.sendError",
    "rule.sendMetaToSink",
    "rule.bufferLength",
    "rule.concurrency",
    "rule.qos",
    "rule.isEventTime",
    "rule.lateTolerance",
    "rule.checkpointInterval",
    "rule.restartStrategy.attempts",
    "sink.enableCache",
    "sink.memoryCacheThreshold",
    "sink.maxDiskCache",
    "sink.bufferPageSize",
    "sink.resendInterval",
    "sink.resendPriority",
    "sink.resendIndicatorField",
    "sink.resendAlterQueue",
    "sink.resendDestination",
    "sink.cleanCacheAtStop",
    "sink.queueMaxBytes",
    "sink.queueMaxAge",
    "sink.queueSync",
    "sink.retryCount",
    "sink.retryInterval",
    "plugins.isolation",
    "plugins.isolated",
    "plugins.process.memory",
    "plugins.process.files",
    "plugins.process.fileSize",
    "plugins.process.callTimeout",
    "plugins.process.logLines",
    "plugins.process.environment",
];

/// Settings of eKuiper whose effect a user relies on when they are on: refused then, rather than passed over.
pub(super) const REFUSED: &[&str] = &[
    "basic.authentication",
    "basic.restTls.certfile",
    "basic.restTls.keyfile",
    "basic.enableOpenZiti",
    "basic.aesKey",
    "basic.enableRestAuditLog",
    "basic.syslog.enable",
    "openTelemetry.enableRemoteCollector",
    "security.encryption",
    "security.tls",
];

/// Settings of eKuiper without an effect here.
pub(super) const IGNORED: &[&str] = &[
    "basic.consoleLog",
    "basic.fileLog",
    "basic.logDisableTimestamp",
    "basic.syslog.network",
    "basic.syslog.address",
    "basic.syslog.level",
    "basic.syslog.tag",
    "basic.rotateTime",
    "basic.maxAge",
    "basic.rotateSize",
    "basic.rotateCount",
    "basic.ip",
    "basic.port",
    "basic.pprof",
    "basic.pprofIp",
    "basic.pprofPort",
    "basic.pluginHosts",
    "basic.sql.maxConnections",
    "basic.connection.backoffMaxElapsedDuration",
    "basic.ResourceProfileConfig.enable",
    "basic.ResourceProfileConfig.interval",
    "basic.metricsDumpConfig.enable",
    "basic.metricsDumpConfig.retainedDuration",
    "connection.backoffMaxElapsedDuration",
    "source.httpServerIp",
    "source.httpServerPort",
    "source.httpServerTls.certfile",
    "source.httpServerTls.keyfile",
    "store.type",
    "store.extStateType",
    "store.redis.host",
    "store.redis.port",
    "store.redis.password",
    "store.redis.timeout",
    "store.redis.connectionSelector",
    "store.sqlite.name",
    "store.fdb.path",
    "store.pebble.path",
    "store.pebble.name",
    "portable.pythonBin",
    "portable.initTimeout",
    "portable.sendTimeout",
    "portable.recvTimeout",
    "openTelemetry.serviceName",
    "openTelemetry.remoteEndpoint",
    "openTelemetry.localTraceCapacity",
    "openTelemetry.enableLocalStorage",
    "hack.cold",
];

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Honoured(&'static str),
    Refused(&'static str),
    Ignored(&'static str),
}

/// The setting of that path; `None` when nobody knows it.
pub(super) fn standing(path: &str) -> Option<Standing> {
    let find = |names: &'static [&'static str]| {
        names.iter().copied().find(|name| {
            name.eq_ignore_ascii_case(path)
                // A whole block that is refused or ignored, whatever it holds.
                || path.len() > name.len()
                    && path.as_bytes()[name.len()] == b'.'
                    && path.is_char_boundary(name.len())
                    && path[..name.len()].eq_ignore_ascii_case(name)
        })
    };
    find(HONOURED)
        .map(Standing::Honoured)
        .or_else(|| find(REFUSED).map(Standing::Refused))
        .or_else(|| find(IGNORED).map(Standing::Ignored))
}

/// All names, for "did you mean".
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    HONOURED.iter().chain(REFUSED).chain(IGNORED).copied()
}
