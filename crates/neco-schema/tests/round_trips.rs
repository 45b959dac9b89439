//! What is written can be read again, unknown fields survive, and no input makes a reader panic.

use neco_schema::{
    Alive, ClockRecord, Condition, ConfigKey, ContentsStatus, Control, Ending, Group,
    HistoryRecord, HistoryServer, Key, Lrn, MemberPlan, NecoVersion, OrderNote, Origin, PackageRef,
    Progress, RebootListEntry, Record, RequestId, RequestKind, SCHEMA, Seen, StopNote, Target,
    Timestamp, Turn, UpdateRequest, UpdateStatus, parse_config_value,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn version() -> impl Strategy<Value = NecoVersion> {
    prop_oneof![
        "20[0-9]{2}\\.(0[1-9]|1[0-2])\\.[0-2][1-9]-[0-9]{1,6}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}(-[a-z0-9]{1,5})?",
    ]
    .prop_map(|text| text.parse().expect("of the grammar"))
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_i64..=253_402_207_199, 0_i64..1_000_000_000)
        .prop_map(|(seconds, nanos)| Timestamp::from_unix(seconds).plus_nanos(nanos))
}

fn lrn() -> impl Strategy<Value = Lrn> {
    any::<u32>().prop_map(Lrn::new)
}

fn id() -> impl Strategy<Value = RequestId> {
    "[0-9a-f]{16}".prop_map(RequestId::claimed)
}

/// Names that none of the known fields has in any case.
fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        Just(json!({ "nested": [1, "two", false] })),
    ];
    proptest::collection::btree_map("x_[a-z]{1,8}", value, 0..4)
        .prop_map(|fields| fields.into_iter().collect())
}

fn request() -> impl Strategy<Value = UpdateRequest> {
    let kind = prop_oneof![
        Just(RequestKind::Release),
        Just(RequestKind::Reconfigure),
        Just(RequestKind::Manual),
        "later-[a-z]{1,6}".prop_map(RequestKind::Unknown),
    ];
    let ending =
        prop_oneof![Just(Ending::Superseded), "later-[a-z]{1,6}".prop_map(Ending::Unknown)];
    let package = ("[a-z0-9_.-]{1,20}\\.deb", any::<u32>(), "[0-9a-f]{64}", unknown()).prop_map(
        |(file, size, sha256, unknown)| PackageRef { file, size: size.into(), sha256, unknown },
    );
    let stopped = (".*", any::<bool>(), ".*", moment(), unknown())
        .prop_map(|(by, leader, reason, at, unknown)| StopNote { by, leader, reason, at, unknown });
    (
        (version(), proptest::collection::vec(lrn(), 0..6), any::<bool>(), moment(), unknown()),
        proptest::option::of(kind),
        proptest::option::of(package),
        proptest::option::of(ending),
        proptest::option::of(stopped),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |((version, servers, stop, at, unknown), kind, package, ending, note, allow)| {
                UpdateRequest {
                    stop,
                    kind,
                    package,
                    allow_downgrade: allow.0,
                    allow_no_way_back: allow.1,
                    ending,
                    stopped: note,
                    unknown,
                    ..UpdateRequest::new(version, servers, at)
                }
            },
        )
}

fn status() -> impl Strategy<Value = UpdateStatus> {
    let origin = (lrn(), any::<u32>(), ".*", unknown())
        .prop_map(|(lrn, step, cause, unknown)| Origin { lrn, step, cause, unknown });
    (
        version(),
        any::<u32>(),
        any::<i64>(),
        ".*",
        proptest::option::of(id()),
        proptest::option::of(origin),
        unknown(),
    )
        .prop_map(|(version, step, cond, message, request, origin, unknown)| UpdateStatus {
            version,
            step,
            cond: Condition::from_code(cond),
            message,
            request,
            origin,
            unknown,
        })
}

/// Any bytes, and JSON that is nearly right.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just("-1".to_owned()),
        Just("[[[]]]".to_owned()),
        Just("{}".to_owned()),
        "\"[^\"\\\\]{0,30}\"",
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}")),
    ];
    let name = prop_oneof![
        Just("version".to_owned()),
        Just("VERSION".to_owned()),
        Just("servers".to_owned()),
        Just("step".to_owned()),
        Just("cond".to_owned()),
        Just("stop".to_owned()),
        Just("started_at".to_owned()),
        Just("package".to_owned()),
        Just("origin".to_owned()),
        Just("request".to_owned()),
        "[a-z_]{1,8}",
    ];
    let object = proptest::collection::vec((name, value), 0..8).prop_map(|fields| {
        let fields: Vec<String> =
            fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    });
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), object]
}

/// Whatever can be read can be written, and reading that gives the same.
fn stable<T: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
    match T::decode(bytes) {
        Ok(record) => {
            let written = record.encode();
            let again = T::decode(&written);
            prop_assert_eq!(again.as_ref(), Ok(&record), "{}", String::from_utf8_lossy(&written));
        }
        Err(error) => {
            let line = error.to_string();
            prop_assert!(!line.contains('\n') && line.len() < 400, "{line}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_request_survives(request in request()) {
        let written = request.encode();
        prop_assert_eq!(UpdateRequest::decode(&written), Ok(request.clone()));
        // Go's own escapes, and one line.
        prop_assert!(!written.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | b'\n')));
        let value: Value = serde_json::from_slice(&written).expect("JSON");
        prop_assert!(value["servers"].is_null() == request.servers.is_empty());
    }

    #[test]
    fn a_status_survives(status in status()) {
        prop_assert_eq!(UpdateStatus::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn the_identity_needs_only_what_the_original_writes(request in request()) {
        // The original's stop rewrite: its four fields, nothing else.
        let rewritten = UpdateRequest {
            stop: true,
            ..UpdateRequest::new(request.version.clone(), request.servers.clone(), request.started_at)
        };
        let read = UpdateRequest::decode(&rewritten.encode()).expect("a request");
        prop_assert_eq!(read.id(), request.id());
    }

    #[test]
    fn a_moment_survives_and_sorts(a in moment(), b in moment()) {
        prop_assert_eq!(a.to_string().parse(), Ok(a));
        prop_assert_eq!(a.fixed().cmp(&b.fixed()), a.cmp(&b));
    }

    #[test]
    fn no_input_makes_a_reader_panic_or_lose_what_it_read(bytes in hostile()) {
        stable::<UpdateRequest>(&bytes)?;
        stable::<UpdateStatus>(&bytes)?;
        stable::<ContentsStatus>(&bytes)?;
        stable::<RebootListEntry>(&bytes)?;
        stable::<Progress>(&bytes)?;
        stable::<MemberPlan>(&bytes)?;
        stable::<Alive>(&bytes)?;
        stable::<Turn>(&bytes)?;
        stable::<Group>(&bytes)?;
        stable::<ClockRecord>(&bytes)?;
        stable::<Target>(&bytes)?;
        stable::<Control>(&bytes)?;
        stable::<Seen>(&bytes)?;
        stable::<HistoryRecord>(&bytes)?;
        stable::<HistoryServer>(&bytes)?;
        stable::<OrderNote>(&bytes)?;
    }

    #[test]
    fn a_key_that_is_read_is_written_the_same(text in "[a-z0-9/._-]{0,60}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn a_key_near_a_real_one_is_that_or_none(
        which in 0..SCHEMA.len(), at in any::<prop::sample::Index>(), with in "[a-zA-Z0-9/]",
    ) {
        let mut text = SCHEMA[which].example.to_owned();
        let at = at.index(text.len());
        text.replace_range(at..=at, &with);
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn a_setting_is_refused_in_one_line_or_stored_in_a_stable_form(text in ".{0,40}") {
        for key in ConfigKey::ALL {
            match parse_config_value(key, &text) {
                Ok(stored) => {
                    let durations = key.default_duration().is_some();
                    prop_assert!(durations || parse_config_value(key, &stored) == Ok(stored.clone()));
                }
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }
}
