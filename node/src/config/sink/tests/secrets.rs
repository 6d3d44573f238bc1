//! What must not be shown.

use super::{SECRET, file_fault, from_file, sinks};
use crate::config::sink::{shown, shown_host};
use crate::config::tests::in_file;
use crate::config::{Hidden, load, show, signers};

#[test]
fn webhooks_are_signed_with_valid_secrets() {
    let base = "[sink.a]\nkind = \"webhook\"\naddress = \"https://example.com\"\n";
    let text = file_fault(base);
    assert!(
        text.contains("sink.a.secret is not set; requests are signed"),
        "{text}"
    );
    let short = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=";
    for secret in ["hunter2", short, "whsec_%%%", "", &SECRET[6..]] {
        let text = file_fault(&format!("{base}secret = \"{SECRET} {secret} x\""));
        assert!(text.contains("sink.a.secret = (hidden): secret"), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("AAEC"),
            "{text}"
        );
    }
    let two = sinks(&format!("{base}secret = \" {SECRET}  {SECRET} \""));
    assert_eq!(two[0].secret, Some(Hidden(format!("{SECRET} {SECRET}"))));
    assert!(!format!("{two:?}").contains(SECRET), "{two:?}");
    let text = file_fault(&format!(
        "{base}secret = \"{SECRET}\"\nsecret_file = \"/s\""
    ));
    assert!(text.contains("are both set: remove one"), "{text}");
}

#[test]
fn a_secret_that_is_not_valid_is_named_by_its_number_and_never_quoted() {
    let count = |text: &str| signers(text).map(|it| it.len());
    assert_eq!(count(SECRET), Ok(1));
    assert_eq!(count(&format!("{SECRET}\n {SECRET} ")), Ok(2));
    for wrong in [
        "",
        &SECRET[6..],
        "whsec_C2FV",
        "whsec_****************************************",
    ] {
        let said = count(wrong).unwrap_err();
        assert!(said.contains("secret"), "{said}");
        assert!(wrong.is_empty() || !said.contains(wrong), "{said}");
    }
    let second = count(&format!("{SECRET} C2FV")).unwrap_err();
    assert!(
        second.contains("secret 2 of 2: expected whsec_"),
        "{second}"
    );
}

#[test]
fn a_password_is_set_once_and_one_in_the_address_is_warned_about() {
    let base = "[sink.a]\nkind = \"postgres\"\n";
    let text = file_fault(&format!(
        "{base}address = \"postgres://h\"\npassword = \"hunter2\"\npassword_file = \"/p\""
    ));
    assert!(
        text.contains("sink.a.password (") && text.contains("are both set"),
        "{text}"
    );
    for address in [
        "postgres://u:hunter2@h",
        "postgres://u@h?password=hunter2",
        "postgres://u@h/x?sslmode=prefer&%70assword=hunter2",
    ] {
        let (config, warnings) =
            from_file(&format!("{base}address = \"{address}\"")).expect("allowed");
        let warned = format!("{warnings:?}");
        assert!(
            warned.contains("sink.a.address")
                && warned.contains("contains a password")
                && warned.contains("password_file"),
            "{warned}"
        );
        assert!(!warned.contains("hunter2"), "{warned}");
        let shown = config.sinks[0].shown_address();
        assert!(
            shown.contains("(hidden)") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert_eq!(config.sinks[0].address, address);
    }
    let (_, warnings) =
        from_file("[sink.a]\nkind = \"mongo\"\naddress = \"mongodb://u:p@h\"").expect("allowed");
    assert!(
        format!("{warnings:?}").contains("contains a password"),
        "{warnings:?}"
    );
    let (_, warnings) = from_file(&format!("{base}address = \"postgres://u@h/x\"")).expect("valid");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn what_may_be_secret_in_an_address_is_never_shown() {
    for (address, expected) in [
        (
            "postgres://u@h:1/x?sslmode=require",
            "postgres://u@h:1/x?sslmode=require",
        ),
        ("postgres://u:p@s/s?w@h/x", "postgres://u:(hidden)@h/x"),
        (
            "mongodb://u:p@h/?authMechanismProperties=AWS:x&w=1",
            "mongodb://u:(hidden)@h/?authMechanismProperties=(hidden)&w=1",
        ),
        ("https://h/hook?token=x", "https://h/hook?(hidden)"),
        ("https://token@h/hook", "https://(hidden)@h/hook"),
        ("u:p@h", "(hidden)@h"),
        ("https://h:8080/hook", "https://h:8080/hook"),
    ] {
        assert_eq!(shown(address), expected);
    }
    for (address, expected) in [
        (
            "https://h:8080/services/T0/hunter2?a=b",
            "https://h:8080/(hidden)",
        ),
        ("https://token@h/hook", "https://(hidden)@h/(hidden)"),
        ("https://h:8080/", "https://h:8080/"),
        ("https://h", "https://h"),
    ] {
        assert_eq!(shown_host(address), expected);
    }
    for text in [
        "address = \"redis://u:hunter2@h\"",
        "address = \"postgres://u:hunter2@h:port\"",
        "address = [\"postgres://u:hunter2@h\"]",
        "address = \"postgres://u:hunter2@h h\"",
        "address = \"postgres://h\"\npassword = [\"hunter2\"]",
    ] {
        let text = file_fault(&format!("[sink.a]\nkind = \"postgres\"\n{text}"));
        assert!(
            !text.contains("hunter2") && text.contains("(hidden)"),
            "{text}"
        );
    }
}

#[test]
fn the_shown_settings_of_sinks_are_an_equal_file_without_secrets() {
    let (_dir, sources) = in_file(concat!(
        "name = \"a\"\n",
        "[sink.m]\nkind = \"mongo\"\naddress = \"mongodb://u@h\"\npassword = \"hunter2\"\nmachines = [\"order/1\"]\n",
        "[sink.p]\nkind = \"postgres\"\naddress = \"postgres://u@h/x?sslmode=require\"\noptional = true\n",
        "[sink.w]\nkind = \"webhook\"\naddress = \"https://example.com/hook\"\nsecret_file = \"/s\"\nstart = \"everything\"\n",
    ));
    let loaded = load(&sources).expect("valid");
    let shown = show(&loaded.settings);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("# sink.m.password is set, and not shown"),
        "{shown}"
    );
    assert!(!shown.contains("sink.p.allow_local"), "{shown}");
    let (_dir, again) = in_file(&shown);
    let mut expected = loaded.config.sinks;
    expected[0].password = None;
    assert_eq!(load(&again).expect("valid").config.sinks, expected);
}
