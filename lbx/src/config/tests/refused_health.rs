//! Refusals of checks and of what goes with them, word for word.

use super::assert_health_refused;

#[test]
fn kinds() {
    assert_health_refused(&[
        (
            "5",
            "lb.yaml:8:13: services[0].health: 5 is not a mapping: use the fields tcp, http, https, dns, udp, exec, ping, target, port, interval, timeout, rise, fall, initial, jitter, damping",
        ),
        (
            "{}",
            "lb.yaml:8:13: services[0].health: does not say what is asked: use one of tcp, http, https, dns, udp, exec, ping",
        ),
        (
            "[tcp]",
            "lb.yaml:8:13: services[0].health: a list is not a mapping: use the fields tcp, http, https, dns, udp, exec, ping, target, port, interval, timeout, rise, fall, initial, jitter, damping",
        ),
        (
            "TCP",
            "lb.yaml:8:13: services[0].health: unknown check \"TCP\": use tcp, http, https, dns, udp, exec, ping or none",
        ),
        (
            "true",
            "lb.yaml:8:13: services[0].health: true is not a mapping: use the fields tcp, http, https, dns, udp, exec, ping, target, port, interval, timeout, rise, fall, initial, jitter, damping",
        ),
        (
            "{tcp: {}, ping: {}}",
            "lb.yaml:8:29: services[0].health.ping: says what is asked, and so does services[0].health.tcp (line 8): leave one of them out",
        ),
        (
            "{interval: 1s}",
            "lb.yaml:8:13: services[0].health: does not say what is asked: use one of tcp, http, https, dns, udp, exec, ping",
        ),
        (
            "{tcp: }",
            "lb.yaml:8:17: services[0].health.tcp: is empty: write {} if there is no more to say",
        ),
        (
            "{tcp: 80}",
            "lb.yaml:8:19: services[0].health.tcp: there is no more to say: write {}",
        ),
        (
            "{tcp: {port: 80}}",
            "lb.yaml:8:19: services[0].health.tcp: there is no more to say: write {}",
        ),
        (
            "exec",
            "lb.yaml:8:13: services[0].health.exec.command: is missing: give a program, or a list of a program and its arguments",
        ),
        (
            "{tcp: {}, retries: 3}",
            "lb.yaml:8:23: services[0].health.retries: unknown field: known here are tcp, http, https, dns, udp, exec, ping, target, port, interval, timeout, rise, fall, initial, jitter, damping",
        ),
        (
            "{smtp: {}}",
            "lb.yaml:8:14: services[0].health.smtp: unknown field: known here are tcp, http, https, dns, udp, exec, ping, target, port, interval, timeout, rise, fall, initial, jitter, damping",
        ),
        (
            "{http: /healthz}",
            "lb.yaml:8:20: services[0].health.http: \"/healthz\" is not a mapping: use the fields method, path, host, headers, status, body, weight",
        ),
    ]);
}

#[test]
fn times() {
    assert_health_refused(&[
        (
            "{tcp: {}, interval: 0}",
            "lb.yaml:8:33: services[0].health.interval: 0 is not an interval: use 100ms to 1h, in whole seconds or with ms, s, m or h",
        ),
        (
            "{tcp: {}, interval: 50ms}",
            "lb.yaml:8:33: services[0].health.interval: \"50ms\" is not an interval: use 100ms to 1h, in whole seconds or with ms, s, m or h",
        ),
        (
            "{tcp: {}, interval: 2h}",
            "lb.yaml:8:33: services[0].health.interval: \"2h\" is not an interval: use 100ms to 1h, in whole seconds or with ms, s, m or h",
        ),
        (
            "{tcp: {}, interval: 1.5}",
            "lb.yaml:8:33: services[0].health.interval: 1.5 is not an interval: use 100ms to 1h, in whole seconds or with ms, s, m or h",
        ),
        (
            "{tcp: {}, interval: 2 s}",
            "lb.yaml:8:33: services[0].health.interval: \"2 s\" is not an interval: use 100ms to 1h, in whole seconds or with ms, s, m or h",
        ),
        (
            "{tcp: {}, timeout: 0s}",
            "lb.yaml:8:32: services[0].health.timeout: \"0s\" is not a timeout: use 10ms to 1h, in whole seconds or with ms, s, m or h",
        ),
        (
            "{tcp: {}, timeout: 3s}",
            "lb.yaml:8:32: services[0].health.timeout: 3s is longer than the interval, 2s: a probe must end before the next begins",
        ),
        (
            "{tcp: {}, interval: 500ms, timeout: 501ms}",
            "lb.yaml:8:49: services[0].health.timeout: 501ms is longer than the interval, 500ms: a probe must end before the next begins",
        ),
        (
            "{tcp: {}, timeout: [1s]}",
            "lb.yaml:8:32: services[0].health.timeout: a list is not a timeout: use 10ms to 1h, in whole seconds or with ms, s, m or h",
        ),
    ]);
}

#[test]
fn counts() {
    assert_health_refused(&[
        (
            "{tcp: {}, rise: 0}",
            "lb.yaml:8:29: services[0].health.rise: 0 is not a number of probes: use 1 to 255",
        ),
        (
            "{tcp: {}, fall: 256}",
            "lb.yaml:8:29: services[0].health.fall: 256 is not a number of probes: use 1 to 255",
        ),
        (
            "{tcp: {}, fall: three}",
            "lb.yaml:8:29: services[0].health.fall: \"three\" is not a number of probes: use a plain number from 1 to 255",
        ),
        (
            "{tcp: {}, initial: maybe}",
            "lb.yaml:8:32: services[0].health.initial: unknown beginning \"maybe\": use first, up or down",
        ),
        (
            "{tcp: {}, jitter: 51}",
            "lb.yaml:8:31: services[0].health.jitter: 51 is not a percentage of the interval: use 0 to 50",
        ),
        (
            "{tcp: {}, jitter: 10%}",
            "lb.yaml:8:31: services[0].health.jitter: \"10%\" is not a percentage of the interval: use a plain number from 0 to 50",
        ),
        (
            "{tcp: {}, damping: true}",
            "lb.yaml:8:32: services[0].health.damping: true is not a mapping: use the fields failures, within, hold",
        ),
        (
            "{tcp: {}, damping: {failures: 0}}",
            "lb.yaml:8:43: services[0].health.damping.failures: 0 is not a number of failures: use 1 to 255",
        ),
        (
            "{tcp: {}, damping: {hold: 0}}",
            "lb.yaml:8:39: services[0].health.damping.hold: 0 is not a time of damping: use 1s to 16h, in whole seconds or with ms, s, m or h",
        ),
        (
            "{tcp: {}, damping: {with: 1s}}",
            "lb.yaml:8:33: services[0].health.damping.with: unknown field: known here are failures, within, hold",
        ),
    ]);
}

#[test]
fn whom() {
    assert_health_refused(&[
        (
            "{tcp: {}, target: dip}",
            "lb.yaml:8:31: services[0].health.target: unknown target \"dip\": use vip or rip",
        ),
        (
            "{tcp: {}, target: 192.168.1.185}",
            "lb.yaml:8:31: services[0].health.target: unknown target \"192.168.1.185\": use vip or rip",
        ),
        (
            "{ping: {}, target: vip}",
            "lb.yaml:8:32: services[0].health.target: ping always probes the RIP: leave target out",
        ),
        (
            "{ping: {}, target: rip}",
            "lb.yaml:8:32: services[0].health.target: ping always probes the RIP: leave target out",
        ),
        (
            "{exec: {command: /bin/true}, target: rip}",
            "lb.yaml:8:50: services[0].health.target: exec checks have no target, the command gets VIP and RIP: leave target out",
        ),
        (
            "{tcp: {}, port: 0}",
            "lb.yaml:8:29: services[0].health.port: 0 is not a port: use 1 to 65535",
        ),
        (
            "{tcp: {}, port: 65536}",
            "lb.yaml:8:29: services[0].health.port: 65536 is not a port: use 1 to 65535",
        ),
        (
            "{tcp: {}, port: http}",
            "lb.yaml:8:29: services[0].health.port: \"http\" is not a port: use a plain number from 1 to 65535",
        ),
        (
            "{ping: {}, port: 80}",
            "lb.yaml:8:30: services[0].health.port: ping has no port: leave it out",
        ),
    ]);
}

#[test]
fn datagrams() {
    assert_health_refused(&[
        (
            "{dns: {name: \"a..b\"}}",
            "lb.yaml:8:26: services[0].health.dns.name: \"a..b\" is not a domain name: use 1 to 254 bytes like example.org, labels of at most 63 between dots",
        ),
        (
            "{dns: {name: \"a b\"}}",
            "lb.yaml:8:26: services[0].health.dns.name: \"a b\" is not a domain name: use 1 to 254 bytes like example.org, labels of at most 63 between dots",
        ),
        (
            "{dns: {name: 5}}",
            "lb.yaml:8:26: services[0].health.dns.name: 5 is not a domain name: to use it as one, put it in quotes",
        ),
        (
            "{dns: {type: a}}",
            "lb.yaml:8:26: services[0].health.dns.type: \"a\" is not a record type: use 1 to 16 bytes of capital letters and digits, like SOA",
        ),
        (
            "{dns: {type: SOAP}}",
            "lb.yaml:8:26: services[0].health.dns.type: \"SOAP\" is not a record type: use one that IANA has a name for",
        ),
        (
            "{dns: {rcode: FINE}}",
            "lb.yaml:8:27: services[0].health.dns.rcode: \"FINE\" is not a response code: use one that IANA has a name for",
        ),
        (
            "{dns: {rcode: 3}}",
            "lb.yaml:8:27: services[0].health.dns.rcode: 3 is not a response code: to use it as one, put it in quotes",
        ),
        (
            "{dns: {rcode: no error}}",
            "lb.yaml:8:27: services[0].health.dns.rcode: \"no error\" is not a response code: use 1 to 16 bytes of capital letters and digits, like NOERROR",
        ),
        (
            "{dns: {answer: \"\"}}",
            "lb.yaml:8:28: services[0].health.dns.answer: \"\" is not the data of an answer: use 1 to 1024 bytes of printable ASCII",
        ),
        (
            "{dns: {class: IN}}",
            "lb.yaml:8:20: services[0].health.dns.class: unknown field: known here are name, type, rcode, answer",
        ),
        (
            "{udp: {payload: {hex: \"0\"}}}",
            "lb.yaml:8:35: services[0].health.udp.payload.hex: \"0\" is not a payload: use 0 to 1400 bytes of two hexadecimal digits each",
        ),
        (
            "{udp: {payload: {hex: \"0g\"}}}",
            "lb.yaml:8:35: services[0].health.udp.payload.hex: \"0g\" is not a payload: use 0 to 1400 bytes of two hexadecimal digits each",
        ),
        (
            "{udp: {payload: {hex: 12}}}",
            "lb.yaml:8:35: services[0].health.udp.payload.hex: 12 is not a payload: to use it as one, put it in quotes",
        ),
        (
            "{udp: {payload: {}}}",
            "lb.yaml:8:29: services[0].health.udp.payload.hex: is missing: give bytes of two hexadecimal digits each",
        ),
        (
            "{udp: {payload: 12}}",
            "lb.yaml:8:29: services[0].health.udp.payload: 12 is not a payload: to use it as one, put it in quotes",
        ),
        (
            "{udp: {reply: \"\"}}",
            "lb.yaml:8:27: services[0].health.udp.reply: \"\" is not a reply: use 1 to 1400 bytes of text, or { hex: \"00ff\" }",
        ),
        (
            "{udp: {reply: {hex: \"\"}}}",
            "lb.yaml:8:33: services[0].health.udp.reply.hex: \"\" is not a reply: use 1 to 1400 bytes of two hexadecimal digits each",
        ),
        (
            "{udp: {expect: a}}",
            "lb.yaml:8:20: services[0].health.udp.expect: unknown field: known here are payload, reply",
        ),
    ]);
}

#[test]
fn commands() {
    assert_health_refused(&[
        (
            "{exec: {}}",
            "lb.yaml:8:20: services[0].health.exec.command: is missing: give a program, or a list of a program and its arguments",
        ),
        (
            "{exec: {command: \"\"}}",
            "lb.yaml:8:30: services[0].health.exec.command: \"\" is not the path of a program: use 1 to 4095 bytes that begin with /, the whole path of a program",
        ),
        (
            "{exec: {command: []}}",
            "lb.yaml:8:30: services[0].health.exec.command: the list is empty: list the program and its arguments",
        ),
        (
            "{exec: {command: check}}",
            "lb.yaml:8:30: services[0].health.exec.command: \"check\" is not the path of a program: use 1 to 4095 bytes that begin with /, the whole path of a program",
        ),
        (
            "{exec: {command: /bin/check -a}}",
            "lb.yaml:8:30: services[0].health.exec.command: \"/bin/check -a\" has white space: it is not run by a shell, so give a list of the program and its arguments",
        ),
        (
            "{exec: {command: [/bin/check, 5]}}",
            "lb.yaml:8:43: services[0].health.exec.command[1]: 5 is not an argument: to use it as one, put it in quotes",
        ),
        (
            "{exec: {command: [/bin/check, \"a\\0\"]}}",
            "lb.yaml:8:43: services[0].health.exec.command[1]: \"a\\0\" is not an argument: use 0 to 4096 bytes without a zero byte",
        ),
        (
            "{exec: {command: /bin/check, environment: [A]}}",
            "lb.yaml:8:55: services[0].health.exec.environment: a list is not a mapping: give variables with their values",
        ),
        (
            "{exec: {command: /bin/check, environment: {\"A=B\": c}}}",
            "lb.yaml:8:56: services[0].health.exec.environment.\"A=B\": \"A=B\" is not the name of a variable: use 1 to 128 bytes without =, white space or a control character",
        ),
        (
            "{exec: {command: /bin/check, environment: {LBX_VIP: c}}}",
            "lb.yaml:8:56: services[0].health.exec.environment.LBX_VIP: names that begin with LBX_ are lbx's own: choose another",
        ),
        (
            "{exec: {command: /bin/check, environment: {A: b, A: c}}}",
            "lb.yaml:8:62: services[0].health.exec.environment.A: \"A\" is already services[0].health.exec.environment.A (line 8)",
        ),
        (
            "{exec: {command: /bin/check, environment: {1: b}}}",
            "lb.yaml:8:56: services[0].health.exec.environment: 1 is not the name of a variable: to use it as one, put it in quotes",
        ),
        (
            "{exec: {command: /bin/check, weight: 1}}",
            "lb.yaml:8:50: services[0].health.exec.weight: 1 is not a boolean: use true or false",
        ),
        (
            "{exec: {command: /bin/check, shell: true}}",
            "lb.yaml:8:42: services[0].health.exec.shell: unknown field: known here are command, environment, weight",
        ),
    ]);
}
