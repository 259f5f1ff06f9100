//! The Dockerfile's grammar, case by case.

use builder::dockerfile::{Command, Dockerfile, Expander, Form, Instruction, MountKind, excerpt};
use builder::pattern::{Ignore, Pattern};

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn commands(text: &str) -> Vec<Command> {
    let parsed = parse(&format!("FROM x\n{text}"));
    parsed.stages[0].instructions.iter().map(|instruction| instruction.command.clone()).collect()
}

fn command(text: &str) -> Command {
    let mut all = commands(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn run(text: &str) -> String {
    match command(text) {
        Command::Run { form: Form { shell: true, args }, .. } => args[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mistakes_name_their_line_in_dockers_words() {
    for (text, line, message) in [
        ("", 1, "file with no instructions"),
        ("# only a comment\n", 1, "file with no instructions"),
        ("FROM a\nFOO bar", 2, "unknown instruction: FOO"),
        ("FROM a\n\n# x\nRUM ls", 4, "unknown instruction: RUM (did you mean RUN?)"),
        ("RUN ls", 1, "no build stage in current context"),
        ("ARG a=1\n", 1, "no build stage in current context"),
        ("FROM", 1, "FROM requires either one or three arguments"),
        ("FROM a b", 1, "FROM requires either one or three arguments"),
        ("FROM a AS 1x", 1, "invalid name for build stage: \"1x\", name can't start with a number or contain symbols"),
        (
            "FROM a\nCOPY x",
            2,
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nCOPY --frm=b x y", 2, "unknown flag: --frm (did you mean from?)"),
        ("FROM a\nCOPY --from=b --from=c x y", 2, "Duplicate flag specified: from"),
        ("FROM a\nCOPY --from x y", 2, "Missing a value on flag: from"),
        ("FROM a\nCOPY --link=maybe x y", 2, "Expecting boolean value for flag link, not: maybe"),
        ("FROM a\nENV a", 2, "ENV must have two arguments"),
        ("FROM a\nENV a=1 b", 2, "Syntax error - can't find = in \"b\". Must be of the form: name=value"),
        ("FROM a\nENV =1", 2, "ENV names can not be blank"),
        ("FROM a\nLABEL a", 2, "LABEL must have two arguments"),
        ("FROM a\nSHELL sh -c", 2, "SHELL requires the arguments to be in JSON form: SHELL sh -c"),
        ("FROM a\nSHELL []", 2, "SHELL requires at least one argument"),
        ("FROM a\nCMD [1]", 2, "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nWORKDIR", 2, "WORKDIR requires exactly one argument"),
        ("FROM a\nEXPOSE", 2, "EXPOSE requires at least one argument"),
        ("FROM a\nRUN", 2, "RUN requires at least one argument"),
        ("FROM a\nONBUILD FROM b", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD ONBUILD RUN b", 2, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD NONSENSE", 2, "unknown instruction: NONSENSE"),
        ("FROM a\nHEALTHCHECK NONE x", 2, "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK x", 2, "Unknown type \"X\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK --interval=1 CMD x", 2, "time: missing unit in duration \"1\""),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", 2, "Interval \"interval\" cannot be less than 1ms"),
        ("FROM a\nRUN --mount=type=ssh,source=y x", 2, "ssh does not support source"),
        ("FROM a\nRUN --mount=type=cache x", 2, "invalid mount: target can not be empty"),
        (
            "FROM a\nRUN --mount=type=cache,target=/x,colour=red x",
            2,
            "unexpected key 'colour' in 'type=cache,target=/x,colour=red'",
        ),
        ("FROM a\nRUN <<EOF\necho", 2, "unterminated heredoc"),
        ("FROM a\nCOPY a <<EOF\nx\nEOF", 2, "COPY cannot accept a heredoc as a destination"),
        ("# escape=x\nFROM a", 1, "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a", 2, "only one escape parser directive can be used"),
    ] {
        let error = Dockerfile::parse(text).expect_err(text);
        assert_eq!((error.line, error.message.as_str()), (line, message), "{text}");
    }
    let error = Dockerfile::parse("FROM a\n\nFOO").expect_err("fails");
    assert_eq!(error.to_string(), "dockerfile parse error on line 3: unknown instruction: FOO");
}

#[test]
fn no_text_makes_the_parser_panic_and_every_mistake_has_a_line() {
    let seeds = [
        "# escape=`\nARG A=1\nFROM --platform=$X a AS b\nRUN --mount=type=cache,target=/x <<-'E' cat `\n y\n\tz\nE\n",
        "FROM a\nCOPY --from=b --chown=1:2 [\"a\", \"b\"]\nENV a=\"${b:-c}\" d\\ e=f\nHEALTHCHECK --interval=1m5s CMD [\"x\"]\n",
        "FROM a\nONBUILD ADD <<X <<\"Y\" /d/\n1\nX\n2\nY\nEXPOSE 80-90/udp\nLABEL a='b c'\nSHELL [\"a\"]\n",
    ];
    let pieces = [
        "\n", "\\", "`", "\"", "'", "<<", "--", "=", "$", "${", "}", "[", "]", "µ", "#", " ", "\t", ",", "FROM ",
        "RUN ", "EOF",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..20_000 {
        let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..=random(6) {
            let at = random(text.len() + 1);
            match random(3) {
                0 if at < text.len() => drop(text.remove(at)),
                1 => text.truncate(at.max(1)),
                _ => drop(text.splice(at..at, pieces[random(pieces.len())].chars())),
            }
        }
        let text: String = text.into_iter().collect();
        match Dockerfile::parse(&text) {
            Ok(parsed) => assert!(!parsed.stages.is_empty(), "{text:?}"),
            Err(error) => {
                assert!((1..=text.split('\n').count()).contains(&error.line), "{error} {text:?}");
                excerpt(&text, "Dockerfile", error.line, error.line);
            }
        }
        let lookup = |_: &str| Some("v".to_owned());
        let _ = Expander::new('\\', &lookup).words(&text);
    }
}

#[test]
fn the_excerpt_marks_the_line() {
    let text = "FROM busybox\n\nFOO\nRUN x\nRUN y\nRUN z";
    let expected = "Dockerfile:3\n--------------------\n   1 |     FROM busybox\n   2 |\n   3 | >>> FOO\n   4 |     RUN x\n   5 |     RUN y\n--------------------";
    assert_eq!(excerpt(text, "Dockerfile", 3, 3), expected);
}

#[test]
fn lines_are_joined_and_comments_vanish() {
    for (text, expected) in [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a \\\n# comment\n  b", "a   b"),
        ("RUN a \\\n  # comment with blanks before it\n  b", "a   b"),
        ("RUN a \\  \n b", "a  b"),
        ("RUN a \\\n\n b", "a  b"),
        ("RUN echo \\\\\nRUN c", "echo \\\\"),
        ("run lower", "lower"),
        ("  RUN   indented", "indented"),
        ("RUN a # no comment", "a # no comment"),
        ("RUN [\"unfinished\", ", "[\"unfinished\","),
        ("RUN a \\", "a"),
    ] {
        let all = commands(text);
        let Command::Run { form, .. } = &all[0] else { panic!("{text}") };
        assert_eq!(form.args[0], expected, "{text}");
    }
    let parsed = parse("# escape=`\r\nFROM a\r\nRUN b `\r\n c\\\r\n");
    assert_eq!(parsed.stages[0].instructions[0].original, "RUN b  c\\");
    assert_eq!((parsed.stages[0].instructions[0].line, parsed.stages[0].instructions[0].end), (3, 4));
}

#[test]
fn directives_count_at_the_very_top_only() {
    assert_eq!(parse("# syntax = docker/dockerfile:1\n# ESCAPE=`\nFROM a").escape, '`');
    assert_eq!(parse("# syntax = docker/dockerfile:1\nFROM a").syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(parse("\n# escape=`\nFROM a").escape, '\\');
    assert_eq!(parse("# a comment\n# escape=`\nFROM a").escape, '\\');
    assert_eq!(parse("# unknown=x\n# escape=`\nFROM a").escape, '\\');
    assert_eq!(parse("\u{feff}FROM a").stages[0].base, "a");
}

#[test]
fn an_empty_continuation_line_is_warned_of() {
    assert_eq!(parse("FROM a\nRUN x \\\n\n y").warnings, ["Empty continuation line found in: RUN x"]);
}

#[test]
fn here_documents_end_where_their_word_stands() {
    let Command::Run { form, heredocs, .. } = command("RUN cat <<A <<-'B' > x\none\nA\n\ttwo $x\n\tB\n") else {
        panic!()
    };
    assert_eq!(form.args[0], "cat <<A <<-'B' > x");
    assert_eq!((heredocs[0].name.as_str(), heredocs[0].data().as_str(), heredocs[0].expand), ("A", "one\n", true));
    assert_eq!((heredocs[1].name.as_str(), heredocs[1].data().as_str(), heredocs[1].expand), ("B", "two $x\n", false));
    assert_eq!(run("RUN echo '<<EOF'"), "echo '<<EOF'");
    assert_eq!(run("RUN a <<< b"), "a <<< b");
    assert_eq!(run("RUN echo $((1<<2))"), "echo $((1<<2))");
    assert_eq!(commands("RUN <<EOF\n# no comment\n\nRUN no instruction\nEOF\nRUN two").len(), 2);
    let Command::Copy(copying) = command("COPY <<\"a.txt\" <<b /to/\n$x\na.txt\n$y\nb\n") else { panic!() };
    let inline: Vec<_> = copying.inline.iter().map(|i| (i.name.as_str(), i.data.as_str(), i.expand)).collect();
    assert_eq!(inline, [("a.txt", "$x\n", false), ("b", "$y\n", true)]);
}

#[test]
fn json_is_exec_form_and_everything_else_is_the_shells() {
    for (text, shell, args) in [
        (r#"CMD ["a", "b c"]"#, false, vec!["a", "b c"]),
        ("CMD a  b", true, vec!["a  b"]),
        (r#"CMD ['a']"#, true, vec!["['a']"]),
        ("CMD []", false, vec![]),
        ("CMD [ -e x ]", true, vec!["[ -e x ]"]),
    ] {
        let Command::Cmd(form) = command(text) else { panic!("{text}") };
        assert_eq!((form.shell, form.args.iter().map(String::as_str).collect::<Vec<_>>()), (shell, args), "{text}");
    }
}

#[test]
fn pairs_keep_quotes_until_they_are_expanded() {
    for (text, expected) in [
        ("ENV a b c", vec![("a", "b c")]),
        ("ENV a=1 b=\"x y\" c=d\\ e", vec![("a", "1"), ("b", "\"x y\""), ("c", "d\\ e")]),
        ("ENV a=", vec![("a", "")]),
        ("ENV a=b=c", vec![("a", "b=c")]),
        ("ENV a b=c", vec![("a", "b=c")]),
    ] {
        let Command::Env(pairs) = command(text) else { panic!("{text}") };
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, expected, "{text}");
    }
    let Command::Arg(variables) = command("ARG a b=1 c=\"x y\"") else { panic!() };
    let variables: Vec<_> = variables.iter().map(|v| (v.name.as_str(), v.default.as_deref())).collect();
    assert_eq!(variables, [("a", None), ("b", Some("1")), ("c", Some("\"x y\""))]);
}

#[test]
fn flags_stand_between_the_name_and_the_arguments() {
    let Command::Copy(copying) =
        command("COPY --from=0 --chown=a:b --chmod=755 --link --exclude=*.md --exclude=x a b/ c/")
    else {
        panic!()
    };
    assert_eq!(
        (copying.from.as_deref(), copying.chown.as_deref(), copying.chmod.as_deref()),
        (Some("0"), Some("a:b"), Some("755"))
    );
    assert_eq!(
        (copying.link, copying.exclude, copying.sources, copying.destination.as_str()),
        (true, vec!["*.md".into(), "x".into()], vec!["a".into(), "b/".into()], "c/")
    );
    let Command::Copy(copying) = command(r#"COPY ["a b", "c"]"#) else { panic!() };
    assert_eq!((copying.sources, copying.destination.as_str()), (vec!["a b".to_owned()], "c"));
    assert_eq!(run("RUN --network=none -- --odd"), "--odd");
    let Command::Run { mounts, network, .. } = command(
        "RUN --mount=type=cache,target=/c,id=x,sharing=locked --mount=type=secret,id=s,required --mount=target=/b,rw --network=host true",
    ) else {
        panic!()
    };
    assert_eq!((network.as_deref(), mounts.len()), (Some("host"), 3));
    assert!(matches!(&mounts[0].kind, MountKind::Cache { id: Some(id), .. } if id == "x"));
    assert!(matches!(&mounts[1].kind, MountKind::Secret { id, required: true, .. } if id == "s"));
    assert!(matches!(&mounts[2].kind, MountKind::Bind { writable: true, from: None, .. }));
    let Command::Healthcheck(health) = command("HEALTHCHECK --interval=1m30s --retries=3 CMD curl x") else { panic!() };
    let checks = health.checks.expect("a check");
    assert_eq!((checks.interval, checks.retries, checks.form.args), (90_000_000_000, 3, vec!["curl x".to_owned()]));
}

#[test]
fn stages_have_names_in_lower_case() {
    let parsed = parse("ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V as BUILD\nRUN x\nFROM build");
    assert_eq!((parsed.global.len(), parsed.stages.len()), (1, 2));
    assert_eq!(
        (parsed.stages[0].name.as_deref(), parsed.stages[0].platform.as_deref()),
        (Some("build"), Some("$BUILDPLATFORM"))
    );
    assert_eq!(
        Instruction::parse_one("CMD x").expect("parses").command,
        Command::Cmd(Form { shell: true, args: vec!["x".into()] })
    );
}

#[test]
fn words_expand_as_in_a_shell() {
    let lookup = |name: &str| match name {
        "a" => Some("one".to_owned()),
        "empty" => Some(String::new()),
        "path" => Some("/usr/local/lib.tar.gz".to_owned()),
        "two" => Some("x y".to_owned()),
        _ => None,
    };
    let expander = Expander::new('\\', &lookup);
    for (text, expected) in [
        ("$a", "one"),
        ("${a}b", "oneb"),
        ("$ab", ""),
        ("$a.b", "one.b"),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ("\"$a\"", "one"),
        ("\"\\$a\\x\"", "$a\\x"),
        ("a\\ b", "a b"),
        ("$", "$"),
        ("$$", ""),
        ("${none}", ""),
        ("${none:-x}", "x"),
        ("${none-x}", "x"),
        ("${empty:-x}", "x"),
        ("${empty-x}", ""),
        ("${a:-x}", "one"),
        ("${a:+x}", "x"),
        ("${a+x}", "x"),
        ("${empty:+x}", ""),
        ("${empty+x}", "x"),
        ("${none:+x}", ""),
        ("${none:-${a}/$two}", "one/x y"),
        ("${a?wrong}", "one"),
        ("${path#*/}", "usr/local/lib.tar.gz"),
        ("${path##*/}", "lib.tar.gz"),
        ("${path%.*}", "/usr/local/lib.tar"),
        ("${path%%.*}", "/usr/local/lib"),
        ("${path/l/L}", "/usr/Local/lib.tar.gz"),
        ("${path//l/L}", "/usr/LocaL/Lib.tar.gz"),
        ("${a%x}", "one"),
        ("${a#?}", "ne"),
        ("\"${none:-a b}\"", "a b"),
    ] {
        assert_eq!(expander.word(text).as_deref(), Ok(expected), "{text}");
    }
    for (text, message) in [
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ("\"a", "unexpected end of statement while looking for matching double-quote"),
        ("${a", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${a:=x}", "unsupported modifier (:=) in substitution"),
        ("${none?must be set}", "none: must be set"),
        ("${empty:?}", "empty: is not allowed to be empty"),
    ] {
        assert_eq!(expander.word(text).expect_err(text).message, message, "{text}");
    }
    assert_eq!(expander.words("a $two 'b c' \"$two\"").expect("expands"), ["a", "x", "y", "b c", "x y"]);
}

#[test]
fn patterns_fit_as_gos_do() {
    for (pattern, text, fits) in [
        ("*.go", "a.go", true),
        ("*.go", "d/a.go", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("[^a-c]x", "dx", true),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("*", "", true),
        ("d/*/f", "d/e/f", true),
        ("a*b*c", "axxbxxc", true),
    ] {
        assert_eq!(Pattern::new(pattern).expect(pattern).matches(text), fits, "{pattern} {text}");
    }
    for pattern in ["[", "[a", "[]", "a\\", "[-x]"] {
        assert!(Pattern::new(pattern).is_err(), "{pattern}");
    }
    let slow = Pattern::new("*a*a*a*a*a*a*a*a*a*a*a*a*b").expect("parses");
    assert!(!slow.matches(&"a".repeat(200)));
}

#[test]
fn what_is_ignored_follows_dockers_rules() {
    for (rules, path, excluded) in [
        ("*.md", "a.md", true),
        ("*.md", "d/a.md", false),
        ("**/*.md", "d/e/a.md", true),
        ("**/*.md", "a.md", true),
        ("**", "a/b", true),
        ("d", "d/e/f", true),
        ("/d", "d/e", true),
        ("./d/", "d/e", true),
        ("d/**", "d/e/f", true),
        ("d/**/f", "d/f", true),
        ("d/**/f", "d/e/g/f", true),
        ("*.md\n!README.md", "README.md", false),
        ("*.md\n!README.md", "a.md", true),
        ("!README.md\n*.md", "README.md", true),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("# comment\n\n  a  ", "a", true),
        ("*\n!src", "src/a", false),
        ("*\n!src", "lib/a", true),
        ("a/../b", "b", true),
        ("*/temp*", "x/temporary", true),
        ("*/temp*", "temporary", false),
        ("temp?", "tempa", true),
        ("temp?", "temp", false),
    ] {
        assert_eq!(Ignore::parse(rules).expect(rules).excludes(path), excluded, "{rules:?} {path}");
    }
    assert!(Ignore::parse("[").is_err());
    assert!(Ignore::parse("!").is_err());
}
