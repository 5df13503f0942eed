//! Somebody with a shell and docs/filesystem.md walks through all that the document tells of: the real programs on the other side
//! of the directory, and on this side `sh`, with what every system has. What the document lists is read from its own tables. It
//! is seen on the walk, or it stands below among the exceptions, with the reason and the test that shows it. What is seen and not
//! listed is a fault as well. So the document and the programs cannot drift apart.
//!
//! Not walked through are the states that only a crash leaves ("What is on disk when"): `tests/crash.rs` and
//! `client/simulation/` are about these.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic as tests do")]

mod support;
mod walk {
    pub mod document;
    pub mod person;
}

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::clock::Clock;
use support::{Server, World, disk, is_left_out, is_root, machine};
use walk::document::Document;
use walk::person::{Person, Seen, ordinary};

/// What is listed and not looked for on the walk: a word for the list it stands in and the entry, why not, and where it is
/// shown, which is a file and a test in it.
const EXCEPTIONS: &[[&str; 4]] = &[
    [
        "alert: identity, a message brought another",
        "takes a hostile program",
        "tests/hostile_peer.rs",
        "only_a_newer_profile_of_the_same_keys_is_taken",
    ],
    [
        "alert: damaged, an envelope came that",
        "takes a server that changes bytes",
        "tests/hostile_peer.rs",
        "an_envelope_that_was_damaged_on_its_way_is_dropped_aloud_and_the_genuine_one_still_opens",
    ],
    [
        "alert: repeated, an envelope came under",
        "takes a hostile program",
        "tests/hostile_peer.rs",
        "a_key_that_is_used_again_causes_an_alert_and_nothing_appears",
    ],
    [
        "alert: counter, the home server does",
        "takes a server that lost its data",
        "tests/recovery.rs",
        "a_home_server_that_lost_the_counter_causes_an_alert_and_no_reset",
    ],
    [
        "alert: new-session, somebody opened a new",
        "takes stolen keys",
        "tests/hostile_peer.rs",
        "somebody_with_a_copy_of_a_contacts_keys_who_opens_a_session_raises_an_alert",
    ],
    [
        "alert: prekey, our server handed out",
        "takes a server that lies",
        "tests/attacks.rs",
        "a_server_that_hands_out_a_prekey_twice_is_told_of_and_silences_nobody_for_good",
    ],
    [
        "alert: membership, the same conversation was",
        "takes a hostile program",
        "tests/membership.rs",
        "a_creator_who_tells_members_different_lists_makes_two_conversations_and_is_told_of_when_they_meet",
    ],
    [
        "alert: discarded, a message came that",
        "takes a hostile program",
        "tests/membership.rs",
        "another_list_under_the_same_id_is_refused_and_brings_nobody_in",
    ],
    [
        "alert: discarded, a large message came",
        "takes a hostile program",
        "src/client/assembling/tests.rs",
        "parts_that_contradict_each_other_are_refused_and_the_rest_of_them_vanishes",
    ],
    [
        "alert: fork, two messages of theirs",
        "takes a hostile program",
        "tests/attacks.rs",
        "different_content_to_different_participants_is_noticed_and_cannot_be_passed_on",
    ],
    [
        "alert: unopened, envelopes that no session",
        "takes hundreds of envelopes of a hostile program",
        "tests/hostile_peer.rs",
        "more_garbage_than_is_kept_is_given_up_aloud",
    ],
    [
        "alert: requests, strangers wrote more than",
        "takes hundreds of messages of a hostile program",
        "tests/hostile_peer.rs",
        "a_stranger_who_writes_more_than_may_wait_is_given_up_aloud",
    ],
    [
        "alert: clock, the clock jumped ahead",
        "takes a clock that jumps under a daemon, and messages of age",
        "src/client/simulation/tidying.rs",
        "a_clock_that_jumps_ahead_erases_nothing_at_once",
    ],
    [
        "status: tor",
        "takes the dialer tor",
        "tests/tor_away.rs",
        "without_tor_files_are_taken_and_wait_and_go_when_there_is_a_way",
    ],
    [
        "path: tor/",
        "takes the dialer tor",
        "tests/tor_away.rs",
        "what_tor_wrote_and_is_damaged_is_named_and_made_anew_once_it_was_moved_away",
    ],
    [
        "status: paused",
        "takes a disk that fails",
        "tests/trouble.rs",
        "a_sender_whose_disk_is_full_pauses_until_there_is_room",
    ],
    [
        "daemon's file: keys/profiles/FINGERPRINT",
        "takes `chatterbox profile set`",
        "tests/identity.rs",
        "who_moves_to_another_server_is_answered_there_after_their_next_message",
    ],
];

/// What may have gone again before anybody looks.
const PASSING: &[[&str; 4]] = &[
    [
        "daemon's file: journal/unopened/SECOND-HASH",
        "until a session opens it",
        "tests/hostile_peer.rs",
        "garbage_is_kept_for_a_while_and_causes_no_answer",
    ],
    [
        "status: connection: connecting",
        "until the server answers",
        "tests/bad_input.rs",
        "an_unreachable_server_is_said_in_status_and_the_message_waits",
    ],
    [
        "daemon's file: keys/dropped",
        "until the next checkpoint",
        "src/client/dropboxes/tests.rs",
        "wherever_the_process_dies_a_file_is_in_the_outbox_once_and_not_in_the_dropbox",
    ],
    [
        "daemon's file: tmp/chatterboxd/new-dropped-…",
        "until the copy is whole",
        "src/client/dropboxes/tests.rs",
        "wherever_the_process_dies_a_file_is_in_the_outbox_once_and_not_in_the_dropbox",
    ],
    [
        "daemon's file: tmp/chatterboxd/taken-…",
        "until the file is unlinked",
        "tests/outbox_writers.rs",
        "a_writer_who_comes_while_his_file_is_taken_loses_no_byte",
    ],
    [
        "daemon's file: tmp/chatterboxd/new-…",
        "until the message is in its place",
        "tests/crash.rs",
        "a_recipient_killed_in_a_standing_session_or_its_stop_loses_and_doubles_nothing",
    ],
    [
        "daemon's file: tmp/chatterboxd/journal-…",
        "until it is overwritten",
        "tests/crash.rs",
        "a_recipient_killed_in_a_standing_session_or_its_stop_loses_and_doubles_nothing",
    ],
    [
        "daemon's file: journal/new",
        "until the new log is whole",
        "tests/crash.rs",
        "a_sender_killed_in_a_standing_session_or_its_stop_loses_and_doubles_nothing",
    ],
    [
        "daemon's file: journal/old",
        "until it is erased",
        "tests/crash.rs",
        "a_sender_killed_in_a_standing_session_or_its_stop_loses_and_doubles_nothing",
    ],
    [
        "daemon's file: keys/large/MESSAGE",
        "until it has arrived, if that is before a checkpoint",
        "tests/large.rs",
        "a_large_file_goes_there_and_back_whole_and_holds_up_no_small_message",
    ],
    [
        "daemon's file: keys/acknowledgements/FINGERPRINT",
        "until it is sent, if that is before a checkpoint",
        "tests/acknowledgements.rs",
        "messages_that_come_together_are_acknowledged_together",
    ],
];

/// Sends an envelope each second, more or less, from the next start on.
const SLOWLY: &str = "printf '%s\\n' 'schedule = \"poisson\"' 'schedule_mean = \"1s\"' >> chatterbox.toml";

/// Takes that back.
const QUICKLY: &str = "sed /^schedule/d chatterbox.toml > tmp/sh/t; mv tmp/sh/t chatterbox.toml";

struct Walk {
    seen: Seen,
    document: Document,
    world: World,
    other: Server,
    alice: Person,
    bob: Person,
    carol: Person,
    /// What is listed, and cannot be seen on this machine.
    left_out: Vec<&'static str>,
}

impl Walk {
    fn new() -> Self {
        let document = Document::read();
        let world = World::new();
        let other = world.another_server("other");
        machine::open_to_all(world.scratch.path());
        let person = |name: &str, server: &str| Person::new(&world, name, name, server);
        let alice = person("alice", &world.server.address);
        let [bob, carol] = ["bob", "carol"].map(|name| person(name, &other.address));
        Self { seen: Seen::new(&document), document, world, other, alice, bob, carol, left_out: Vec::new() }
    }

    /// Another account, of any name.
    fn person(&self, directory: &str, name: &str) -> Person {
        Person::new(&self.world, directory, name, &self.world.server.address)
    }

    fn alice(&mut self, condition: &str) {
        self.alice.until(&mut self.seen, condition);
    }

    fn bob(&mut self, condition: &str) {
        self.bob.until(&mut self.seen, condition);
    }

    /// What she does while her daemon does not run.
    fn alice_stopped(&mut self, script: &str) {
        self.alice.stop();
        self.alice("grep -q '^daemon: stopped' status");
        self.alice.sh(script);
        self.alice.start();
        self.alice("grep -q '^connection: connected to' status");
    }

    /// The same, and she comes back in a place where a directory of the outbox is another filesystem, if there can be one.
    fn alice_stopped_elsewhere(&mut self, script: &str) {
        if is_left_out(disk::missing_in(namespace())) {
            self.left_out.push("error: on another filesystem than the rest");
            return self.alice_stopped(script);
        }
        self.alice.stop();
        self.alice.sh(&format!("{script}\nmkdir outbox/usb"));
        let mut wrapper = mounting();
        wrapper.arg(self.alice.path().join("outbox/usb"));
        if is_root() {
            wrapper.args(ordinary().get_args());
        }
        self.alice.start_under(wrapper);
        self.alice("grep -q 'on another filesystem than the rest' outbox/usb.error");
        self.alice_stopped("rmdir outbox/usb");
    }

    fn first_words(&mut self) {
        self.alice.sh("drop bob hello hello; test -e outbox/bob/hello");
        self.bob.start();
        self.bob("grep -q '^prekeys: 100' status");
        for (person, hook) in [
            (&self.alice, "on-delivered"),
            (&self.alice, "on-failed"),
            (&self.alice, "on-alert"),
            (&self.bob, "on-message"),
        ] {
            person.sh(&format!(
                "mkdir -p ui_info/sh tmp/sh
                printf '%s\\n' '#!/bin/sh' 'umask 022' 'env > \"tmp/sh/env-$CHATTERBOX_EVENT-$$\"' \
                    'mv \"tmp/sh/env-$CHATTERBOX_EVENT-$$\" \"ui_info/sh/hook-$CHATTERBOX_EVENT-$$\"' > tmp/sh/hook
                chmod 700 tmp/sh/hook
                mv tmp/sh/hook hooks/{hook}"
            ));
        }
        self.alice.start();
        self.alice("state hello delivered");
        self.bob("test -n \"$(message hello)\" && ls ui_info/sh/hook-message-*");
        self.alice("ls ui_info/sh/hook-delivered-* && test ! -e outbox/bob/hello");
        // The script in the document, as it stands there.
        self.alice.sh(&self.document.code("mkdir -p \"$root/tmp/myprogram\""));
        self.alice("state 'disk full' delivered");
        self.bob.sh("drop alice answer 'an answer'");
        self.alice("test -n \"$(message 'an answer')\"");
    }

    fn states_and_giving_up(&mut self) {
        self.carol.start();
        self.carol.until(&mut self.seen, "grep -q '^prekeys: 100' status");
        self.alice.sh("drop carol first 'first to carol'");
        self.alice.sh("drop bob,carol first 'first to both'");
        self.alice("state 'first to carol' delivered && state 'first to both' delivered");
        self.bob("test -n \"$(message 'first to both')\"");
        self.carol.until(&mut self.seen, "test -n \"$(message 'first to both')\"");
        self.bob.stop();
        self.bob("grep -q '^connection: stopped' status");
        self.alice.sh("drop bob later 'for later'");
        self.alice("state 'for later' accepted");
        self.bob.start();
        self.alice("state 'for later' delivered");
        // Their server is gone. Dave has never been there, and nobody has a session with him.
        let dave = Person::new(&self.world, "dave", "dave", &self.other.address);
        self.alice.knows(&[&dave]);
        self.other.kill();
        self.bob("grep -q '^connection: not connected to' status");
        self.alice.sh("drop dave x 'to dave'; drop bob y 'to bob'; drop carol z 'to carol'");
        self.alice("state 'to dave' queued && state 'to bob' sealed && grep -q '^trouble: bob: ' status");
        self.alice.sh("head -c 100000 /dev/zero > tmp/sh/large; mv tmp/sh/large outbox/bob/large");
        self.alice("grep -q '^sending: conversations/.* to bob: ' status");
        // Taken back: no alert.
        self.alice.sh("drop bob regret regret; drop bob,carol regret 'regret it all'");
        self.alice("state regret sealed && state 'regret it all' sealed");
        self.alice.sh("cancel regret; cancel 'regret it all'");
        self.alice("state regret failed && state 'regret it all' failed && test -z \"$(ls outbox/.cancel)\" && test -z \"$(ls alerts)\"");
        self.alice_stopped("echo 'retry_period = \"2s\"' >> chatterbox.toml");
        self.alice("state 'to dave' failed && state 'to bob' failed && state 'to carol' failed");
        self.alice("ls alerts/*Z-undeliverable-* && ls ui_info/sh/hook-failed-* && ls ui_info/sh/hook-alert-*");
        self.alice_stopped(
            "sed '/retry_period/d' chatterbox.toml > tmp/sh/t; mv tmp/sh/t chatterbox.toml; rm alerts/*",
        );
        self.other.start();
        self.bob("grep -q '^connection: connected to' status");
        self.alice.sh(
            "drop bob after 'after it'; drop carol after 'after it to carol'; drop bob,carol after 'after it to both'",
        );
        // What was given up is missing there, and comes later, or it is said that it does not: see the end.
        self.bob("grep -q '^gap: ' conversations/*/.gaps");
    }

    fn refused(&mut self) {
        self.alice.sh("cd conversations/*-alice-bob; echo 'expire = 7' > settings.toml");
        let stranger = self.person("eve", "eve");
        let blocked = self.person("frank", "frank");
        self.alice.sh(&format!(
            "echo '{}' > blocked/frank.card
            echo 'send_limit = \"6 MiB\"' >> chatterbox.toml
            echo 'no card' > contacts/nobody.card; echo 'no card' > contacts/nobody; cp contacts/nobody.card blocked/",
            blocked.card
        ));
        self.alice_stopped("true");
        self.alice(
            "test -e contacts/nobody.card.error && test -e contacts/nobody.error && test -e blocked/nobody.card.error",
        );
        // Somebody who is not decided about.
        let mut stranger = stranger;
        stranger.knows(&[&self.alice]);
        stranger.sh("drop alice x 'do you know me?'");
        stranger.start();
        self.alice("grep -q '^conversation: ' requests/eve~*/.delivery/*");
        stranger.until(&mut self.seen, "state 'do you know me?' accepted");

        let many: Vec<Person> = (0..20).map(|number| self.person(&format!("friend{number}"), "friend")).collect();
        self.alice.knows(&many.iter().collect::<Vec<_>>());
        let names: String = many.iter().map(|person| format!("\"{}\", ", person.user.name)).collect();
        let longer = "x".repeat(201);
        self.alice.sh(&format!(
            "directory() {{ mkdir -p tmp/sh/new; cat > tmp/sh/new/metadata.toml; echo x > tmp/sh/new/x; : > tmp/sh/new/draft.tmp; mv tmp/sh/new outbox/$1; }}
            drop zoe x x; drop frank x x; drop alice x x; drop , x x
            echo 'participants = [{names} \"bob\"]' | directory many
            echo 'participants =' | directory bad
            echo 'participants = [\"alice\"]' | directory alone
            printf 'participants = [\"bob\"]\\nsubject = \"{longer}\"\\n' | directory subject
            printf 'participants = [\"bob\"]\\nid = \"xyz\"\\n' | directory none
            printf 'participants = [\"bob\"]\\nid = \"%s\"\\n' ffffffffffffffffffffffffffffffff | directory unknown
            id=$(sed -n 's/^id = //p' conversations/*-alice-bob/metadata.toml)
            printf 'participants = [\"carol\"]\\nid = %s\\n' \"$id\" | directory others
            id=$(sed -n 's/^conversation: //p' requests/eve~*/.delivery/*)
            name=$(cd requests; ls -d eve~*); who=$(sed -n 's/^from: //p' requests/eve~*/.delivery/* | sed 's/ .*//')
            printf 'participants = [\"%s\"]\\nid = \"%s\"\\n[fingerprints]\\n\"%s\" = \"%s\"\\n' \"$name\" \"$id\" \"$name\" \"$who\" |
                directory undecided
            mkdir outbox/unread; ln -s /etc/passwd outbox/unread/metadata.toml; echo x > outbox/unread/x
            mkdir outbox/closed; echo x > outbox/closed/x; chmod 500 outbox/closed
            echo x > outbox/stray
            mkdir tmp/sh/bob; mkfifo tmp/sh/bob/pipe; mkdir tmp/sh/bob/directory; ln -s /etc/passwd tmp/sh/bob/link
            echo x > tmp/sh/bob/unreadable; chmod 000 tmp/sh/bob/unreadable
            : > tmp/sh/bob/empty; touch -t 202001010000 tmp/sh/bob/empty
            head -c 7000000 /dev/zero > tmp/sh/bob/huge
            mv tmp/sh/bob/* outbox/bob/
            : > outbox/bob/waits
            cancel 'for later'; : > outbox/.cancel/ffffffffffffffffffffffffffffffff; : > outbox/.cancel/plan.pdf"
        ));
        self.alice("grep -q '^waiting: outbox/bob/waits: ' status && grep -q '^refused: outbox/bob/huge' status");
        self.alice("grep -q '^ignored: [1-9]' status");
        for promise in self.document.errors() {
            if !["on another filesystem", "belongs to another conversation"].iter().any(|later| promise.contains(later))
            {
                self.alice(&format!("grep -s -e \"{promise}\" outbox/*.error outbox/*/*.error outbox/.cancel/*.error"));
            }
        }
        // What was given a new name that says something else.
        self.alice.sh("mv outbox/bob outbox/twin; mv outbox/twin outbox/carol,bob; echo x > outbox/carol,bob/y");
        self.alice("grep -s 'belongs to another conversation than it' outbox/*.error");
        self.alice.sh("mv outbox/carol,bob outbox/bob; chmod 700 outbox/closed; rm contacts/friend*; until rm -rf outbox/*; do :; done");
        self.alice("grep -q '^refused: outbox/.cancel/plan.pdf' status");
        self.alice.sh("cd outbox/.cancel; for file in *; do case $file in *.error) ;; *) rm $file ;; esac; done");
        self.alice("test -z \"$(ls outbox/.cancel)\" && test -z \"$(ls outbox/*.error 2>&-)\" && ! grep -q '^refused: outbox' status");

        // The request is accepted by hand, as the document shows it.
        let accept = self.document.code("requests/alice~2785e0ff/card");
        let name = self.alice.sh("cd requests; ls -d eve~*");
        self.alice
            .sh(&accept.replace("alice~2785e0ff", name.trim()).replace("contacts/alice.card", "contacts/eve.card"));
        self.alice("test -n \"$(message 'do you know me?')\" && test ! -e requests/eve~*");
        stranger.until(&mut self.seen, "state 'do you know me?' delivered");
        stranger.stop();
        self.alice("test -e conversations/*-alice-bob/settings.toml.error");
        self.alice.sh("cd conversations/*-alice-bob; echo 'expire = \"never\"' > settings.toml");
    }

    fn strangers_and_identities(&mut self) {
        // Somebody who calls themself as a contact does.
        let mut mallory = self.person("mallory", "bob");
        mallory.knows(&[&self.alice]);
        mallory.start();
        mallory.sh("drop alice x 'it is me, bob'");
        self.alice("ls alerts/*Z-identity-* && ls requests/bob~*/card");
        // Rejected, once all of it is there, and there again.
        self.alice("grep -qx 'it is me, bob' requests/bob~*/*Z-bob* && ls requests/bob~*/.delivery/*Z-bob*");
        self.alice.sh("rm -r requests/bob~*");
        mallory.sh("drop alice x 'why not?'");
        self.alice("ls requests/bob~*/card && grep -qx 'why not?' requests/bob~*/*Z-bob*");
        // Blocked, and not heard of.
        self.alice.sh("mv requests/bob~*/card blocked/mallory.card");
        self.alice("test ! -e requests/bob~*");
        mallory.sh("drop alice x 'hello?'");
        mallory.until(&mut self.seen, "state 'hello?' accepted");
        // A contact, by the lines of the document, and back.
        let lines = self.document.code("mv contacts/bob.card blocked/");
        let [block, unblock] = [lines.lines().next().unwrap(), lines.lines().nth(1).unwrap()];
        self.alice.sh(&format!("{block}\ndrop bob x 'not now'"));
        self.alice("grep -q 'is blocked' outbox/bob.error");
        self.alice.sh(unblock);
        self.alice("state 'not now' delivered && test ! -e outbox/bob.error && test -z \"$(ls requests)\"");
        // Other keys under a name.
        let [old, new] = ["old", "new"].map(|name| self.person(name, "grace"));
        self.alice.sh(&format!("rm alerts/*; echo '{}' > contacts/grace.card; drop grace x x", old.card));
        self.alice("test -z \"$(ls outbox/grace)\"");
        self.alice.sh(&format!("echo '{}' > contacts/grace.card", new.card));
        self.alice("ls alerts/*Z-identity-*");
    }

    fn settings_and_hooks(&mut self) {
        self.alice.sh("echo true > hooks/on-message");
        self.bob.sh("drop alice hook 'for the hook'");
        self.alice("ls alerts/*Z-hook-on-message && grep -q '^hook: on-message: ' status");
        self.alice.sh("rm hooks/on-message");
        self.alice("! grep -q '^hook: ' status");
        // A setting that nobody knows.
        self.alice.stop();
        self.alice.sh("cp chatterbox.toml tmp/sh/t; echo 'nonsense = 1' >> chatterbox.toml");
        self.alice.start();
        self.alice("grep -q '^ended: .*nonsense' status");
        self.alice.sh("mv tmp/sh/t chatterbox.toml");
        self.alice.start();
        self.alice("! grep -q '^ended: ' status && grep -q '^connection: connected to' status");
        self.alice_stopped(SLOWLY);
        self.alice("grep -q '^schedule: ' status");
        self.alice_stopped_elsewhere(QUICKLY);
    }

    fn dropbox(&mut self) {
        self.alice("test ! -e conversations/*-alice-bob/settings.toml.error");
        let directory = self.world.scratch.path().canonicalize().unwrap().join("alice-drop");
        let directory = directory.to_str().unwrap();
        let made = ordinary().args(["sh", "-c", "id -u"]).output().unwrap();
        let uid = String::from_utf8(made.stdout).unwrap();
        let settings = self.document.code("# dropboxes/alerts.toml");
        let settings = settings.replace("uid = 33", &format!("uid = {}", uid.trim()));
        let settings = settings.replace("/var/tmp/chatterbox-1000/alerts", directory);
        // The place of dropboxes is made once, by whoever may.
        let place = Command::new("install").args(["-d", "-m", "1733", "-o", uid.trim(), directory]).status();
        assert!(place.unwrap().success());
        self.alice.sh(&format!("printf '%s\\n' '{settings}' > tmp/sh/alerts.toml; mv tmp/sh/alerts.toml dropboxes/"));
        let script = self.document.code("mv \"$box/.alert.$$\"");
        // In quotes: wherever scratch directories are, there may be a space in the path.
        let quoted = format!("'{directory}'");
        let script = script.replace("/var/tmp/chatterbox-1000/alerts", &quoted);
        self.alice.sh(&script.replace("disk full", "from cron"));
        self.bob("test -n \"$(message 'from cron')\"");
        self.alice("state 'from cron' delivered");
        self.alice.sh(&format!("mkdir {quoted}/box"));
        self.alice(&format!("test -e {quoted}/box.error && grep -q '^dropbox: alerts: ' status"));
        self.alice.sh(&format!("chmod 777 {quoted}"));
        self.alice("test -e dropboxes/alerts.toml.error");
        self.alice.sh(&format!("rmdir {quoted}/box; chmod 1733 {quoted}; rm dropboxes/alerts.toml"));
        self.alice("test ! -e dropboxes/alerts.toml.error && ! grep -q '^dropbox: ' status");
    }

    fn large(&mut self) {
        self.bob.stop();
        self.bob.sh("echo 'receive_limit = \"4 MiB\"' >> chatterbox.toml");
        self.bob.start();
        self.alice.sh("head -c 5000000 /dev/zero > tmp/sh/huge.bin; mv tmp/sh/huge.bin outbox/bob/");
        self.bob("ls alerts/*Z-refused-*");
        self.alice("grep -q ' failed ' conversations/*-alice-bob/.delivery/*-alice-huge.bin");
        // A part now and then, so that whoever looks sees it on its way however slow they are.
        self.alice_stopped(SLOWLY);
        self.alice.sh("head -c 3000000 /dev/zero > tmp/sh/large.bin; mv tmp/sh/large.bin outbox/bob/");
        self.alice("grep -q '^progress: ' conversations/*-alice-bob/.delivery/*large.bin");
        self.bob("grep -q '^receiving: from alice: ' status");
        // It stops in the middle, and goes on.
        self.alice.user.kill();
        self.alice.sh(QUICKLY);
        self.alice.start();
        self.alice("grep -q ' delivered ' conversations/*-alice-bob/.delivery/*large.bin");
        self.bob("cat conversations/*-alice-bob/*large.bin | wc -c | grep -qx 3000000");
    }

    /// Somebody loses what their daemon knew; who they write to is told as soon as that is possible.
    fn loss(&mut self) {
        self.bob.stop();
        self.world.server.kill();
        self.bob.sh("rm -r keys");
        self.bob.start();
        self.bob("ls alerts/*Z-rollback && grep -q '^recovery: ' status");
        self.world.server.start();
        self.alice("ls alerts/*Z-recovered-*");
        self.bob("! grep -q '^recovery: ' status && ls keys/recovery keys/told-*");
    }

    /// What takes days: a clock is put forward.
    fn days_later(&mut self) {
        // Most of a minute ago something was missing at bob's, and he has asked for it.
        self.alice("state 'to bob' delivered");
        // So has carol, and was told that it will not come: among several that stays.
        self.carol.until(
            &mut self.seen,
            "grep -q '^withdrawn: ' conversations/*-alice-bob-carol/.gaps && test ! -e conversations/*-alice-carol/.gaps",
        );
        // What is taken back is missing for good where its author's daemon is gone before it is asked.
        self.carol.stop();
        self.other.kill();
        self.alice.sh("drop carol lost lost");
        self.alice("state lost sealed");
        self.alice.sh("cancel lost");
        self.alice("state lost failed");
        self.other.start();
        self.alice.sh("drop carol behind 'behind it'");
        self.alice("state 'behind it' accepted");
        self.alice_stopped(SLOWLY);
        self.alice.sh("head -c 6000000 /dev/zero > tmp/sh/new.bin; mv tmp/sh/new.bin outbox/carol/");
        self.alice("grep -q '^progress: ' conversations/*-alice-carol/.delivery/*new.bin");
        self.alice.user.kill();
        self.carol.start();
        self.carol.until(
            &mut self.seen,
            "test -n \"$(message 'behind it')\" && grep -q '^gap: ' conversations/*-alice-carol/.gaps &&
            grep -q '^receiving: from alice: ' status",
        );
        self.carol.stop();
        self.carol.until(&mut self.seen, "grep -q '^daemon: stopped' status");
        let clock = Clock::ahead(self.world.scratch.path(), 15 * 86_400);
        let (mut wrapper, by_clock) = (ordinary(), clock.wrapper());
        wrapper.arg(by_clock.get_program()).args(by_clock.get_args());
        self.carol.start_under(wrapper);
        self.carol.until(&mut self.seen, "ls alerts/*Z-gap-* alerts/*Z-unfinished-*");
    }
}

/// The options of `unshare` for a namespace in which a daemon of an ordinary user's can run behind a mount.
fn namespace() -> &'static [&'static str] {
    if is_root() { &["-m", "--propagation", "private"] } else { &["-r", "-m", "--propagation", "private"] }
}

/// What mounts a filesystem over its first argument, puts a file there and runs the rest.
fn mounting() -> Command {
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o mode=777 tmpfs "$0" && echo x > "$0/x" && exec "$@""#;
    command.args(namespace()).args(["sh", "-c", script]);
    command
}

#[test]
fn whoever_has_a_shell_and_the_document_sees_all_that_it_tells_of_and_nothing_else() {
    let mut walk = Walk::new();
    walk.alice.knows(&[&walk.bob, &walk.carol]);
    walk.bob.knows(&[&walk.alice, &walk.carol]);
    walk.carol.knows(&[&walk.alice, &walk.bob]);
    walk.first_words();
    walk.states_and_giving_up();
    walk.refused();
    walk.strangers_and_identities();
    walk.settings_and_hooks();
    walk.dropbox();
    walk.large();
    walk.loss();
    walk.days_later();

    let Walk { seen, document, left_out, .. } = walk;
    let is_exception = |what: &str| EXCEPTIONS.iter().chain(PASSING).any(|[known, ..]| *known == what);
    let excepted = |what: &str| is_exception(what) || left_out.contains(&what);
    let promises: BTreeSet<String> = document.promises().into_iter().collect();
    let unseen: Vec<&String> = promises.difference(&seen.seen).filter(|what| !excepted(what)).collect();
    assert!(
        unseen.is_empty() && seen.unknown.is_empty(),
        "listed, and neither seen nor among the exceptions: {unseen:#?}\nseen, and not listed: {:#?}",
        seen.unknown
    );
    let needless: Vec<_> = EXCEPTIONS.iter().filter(|[what, ..]| seen.seen.contains(*what)).collect();
    assert!(needless.is_empty(), "these are no exceptions: {needless:#?}");
}

#[test]
fn each_exception_is_listed_in_the_document_and_shown_by_a_test_that_is_there() {
    let promises = Document::read().promises();
    for [what, _, file, test] in EXCEPTIONS.iter().chain(PASSING) {
        assert!(promises.iter().any(|promise| promise == what), "{what} is not in the document");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains(&format!("fn {test}()")), "there is no test {test} in {file}");
    }
}

#[test]
fn the_settings_in_the_document_are_those_that_the_daemon_knows() {
    let world = World::new();
    let alice = world.user("alice");
    alice.set("nonsense = 1");
    let said = alice.daemon_output();
    let said = String::from_utf8(said.stderr).unwrap();
    let known = said.split("this version knows: ").nth(1).unwrap_or_else(|| panic!("{said}"));
    let known: BTreeSet<&str> = known.lines().next().unwrap().split(", ").collect();
    let settings = Document::read().settings();
    // Who needs that one has read so far.
    let listed: BTreeSet<&str> =
        settings.iter().map(String::as_str).filter(|key| !key.starts_with("dangerous")).collect();
    assert_eq!(listed, known);
}
