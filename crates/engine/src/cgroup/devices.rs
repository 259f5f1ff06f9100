//! Device rules on cgroup v2: a small eBPF program that the kernel asks at every use of a device node.
//!
//! On v2 there is no `devices` controller; a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` attached to the group takes
//! its place (kernel: Documentation/admin-guide/cgroup-v2.rst, "Device controller"). The program is a list of
//! comparisons, so it is made here, instruction by instruction, without a compiler or C library.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Which devices, and what may be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// `BPF_DEVCG_DEV_*`; `None`: both.
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    /// `BPF_DEVCG_ACC_*`.
    access: u32,
}

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const EVERYTHING: u32 = MAKE | READ | WRITE;

impl Rule {
    /// Reads `c 1:3 rwm`, `b *:* m`, `a`: the form of v1's files.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        let kind = match fields.next()? {
            "a" => None,
            "b" => Some(BLOCK),
            "c" => Some(CHARACTER),
            _ => return None,
        };
        let (Some(numbers), Some(letters)) = (fields.next(), fields.next()) else {
            return (kind.is_none()).then_some(Self { kind, major: None, minor: None, access: EVERYTHING });
        };
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        let (major, minor) = numbers.split_once(':')?;
        let access = letters.chars().try_fold(0, |access, letter| {
            Some(access | [('m', MAKE), ('r', READ), ('w', WRITE)].iter().find(|(known, _)| *known == letter)?.1)
        })?;
        Some(Self { kind, major: number(major)?, minor: number(minor)?, access })
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the lower, source in the upper half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Opcodes (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNLESS_EQUAL: u8 = 0x56; // of 32 bits
const EXIT: u8 = 0x95;

// Registers: 0 holds the answer, 1 the context.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// A program that permits what one of the rules permits, and refuses the rest. Its context is
/// `struct bpf_cgroup_dev_ctx`: access and kind in one word, major, minor.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let step =
        |code, to: u8, from: u8, offset, immediate| Instruction { code, registers: from << 4 | to, offset, immediate };
    let mut all = vec![
        step(LOAD_WORD, KIND, CONTEXT, 0, 0),
        step(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        step(AND, KIND, 0, 0, 0xffff),
        step(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        step(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        step(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        let mut tests = Vec::new();
        if rule.access != EVERYTHING {
            // What is asked for beyond what the rule permits.
            tests.push(step(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
            tests.push(step(AND, SCRATCH, 0, 0, (EVERYTHING & !rule.access) as i32));
            tests.push(step(JUMP_UNLESS_EQUAL, SCRATCH, 0, 0, 0));
        }
        for (register, wanted) in [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(wanted) = wanted {
                tests.push(step(JUMP_UNLESS_EQUAL, register, 0, 0, wanted as i32));
            }
        }
        // Past the rest of this rule's tests and its two last instructions.
        let length = tests.len();
        for (index, test) in tests.iter_mut().enumerate().filter(|(_, test)| test.code == JUMP_UNLESS_EQUAL) {
            test.offset = (length - index - 1 + 2) as i16;
        }
        all.extend(tests);
        all.extend([step(MOVE, ANSWER, 0, 0, 1), step(EXIT, 0, 0, 0, 0)]);
    }
    all.extend([step(MOVE, ANSWER, 0, 0, 0), step(EXIT, 0, 0, 0, 0)]);
    all
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const PROGRAM_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of ancestors and of other owners stay in force: all must permit.
const ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Restricts the group of `directory` to what the rules permit, until it is removed.
///
/// # Errors
/// The kernel's; `Unsupported` where it has no such programs.
pub(super) fn restrict(directory: &Path, rules: &[Rule]) -> io::Result<()> {
    let instructions = program(rules);
    let mut name = [0; 16];
    name[..13].copy_from_slice(b"hythe_devices");
    let load = Load {
        kind: PROGRAM_CGROUP_DEVICE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        version: 0,
        flags: 0,
        name,
    };
    let fd = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the call has just made this descriptor; nobody else owns it.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let group = File::open(directory)?;
    let attach = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the attributes are plain data of the size given; what they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result >= 0 {
        return Ok(result as i32);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("this kernel has no device programs: {error}")))
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the program for one use of a device.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let Instruction { code, registers: named, offset, immediate } = program[at];
            let (to, from) = (usize::from(named & 15), usize::from(named >> 4));
            at += 1;
            match code {
                LOAD_WORD => registers[to] = u64::from(context[offset as usize / 4]),
                MOVE => registers[to] = immediate as u64,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= immediate as u64,
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_UNLESS_EQUAL if registers[to] as u32 != immediate as u32 => at += offset as usize,
                JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| Rule::parse(text).unwrap_or_else(|| panic!("{text}"))).collect()
    }

    #[test]
    fn rules_are_read_as_v1_writes_them() {
        assert_eq!(rules(&["c 1:3 rwm"]), [Rule { kind: Some(2), major: Some(1), minor: Some(3), access: 7 }]);
        assert_eq!(rules(&["b *:5 m"]), [Rule { kind: Some(1), major: None, minor: Some(5), access: 1 }]);
        assert_eq!(rules(&["a", "a *:* rwm"])[0], rules(&["a *:* rwm"])[0]);
        for text in ["", "c", "c 1 r", "x 1:3 r", "c 1:y r", "c 1:3 q", "c -1:3 r"] {
            assert_eq!(Rule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_program_permits_what_some_rule_permits_whole() {
        let rules = rules(&["c *:* m", "b *:* m", "c 1:3 rwm", "c 1:9 r", "c 136:* rw", "b 8:0 w"]);
        let program = program(&rules);
        // Every rule stands for what it says, by an oracle that shares nothing with the program.
        for kind in [BLOCK, CHARACTER] {
            for access in 1..8 {
                for (major, minor) in [(1, 3), (1, 9), (1, 4), (136, 0), (136, 1 << 19), (8, 0), (8, 1), (3, 1)] {
                    let permits = |rule: &Rule| {
                        rule.kind.is_none_or(|wanted| wanted == kind)
                            && rule.major.is_none_or(|wanted| wanted == major)
                            && rule.minor.is_none_or(|wanted| wanted == minor)
                            && access & !rule.access == 0
                    };
                    let expected = u64::from(rules.iter().any(permits));
                    assert_eq!(run(&program, kind, access, major, minor), expected, "{kind} {access} {major}:{minor}");
                }
            }
        }
    }

    #[test]
    fn without_rules_nothing_and_with_all_everything_is_permitted() {
        assert_eq!(run(&program(&[]), CHARACTER, READ, 1, 3), 0);
        assert_eq!(run(&program(&rules(&["a"])), BLOCK, EVERYTHING, 8, 0), 1);
    }

    /// Needs root, and a kernel with cgroup v2 (no controller of it): mounts it for this thread alone.
    #[test]
    fn the_kernel_keeps_to_the_program() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("tests of the engine need root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
        let root = tempfile::tempdir().unwrap();
        mount(Some("none"), root.path(), Some("cgroup2"), MsFlags::empty(), None::<&str>).unwrap();
        let group = root.path().join(format!("hythe-test-devices-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let restricted = restrict(&group, &rules(&["c 1:3 r", "c 1:9 rw"]));
        let script = format!(
            "echo $$ > {}/cgroup.procs || exit 9; : < /dev/null && echo null; (: > /dev/null) 2> /proc/self/fd/1; \
             (: < /dev/zero) 2> /proc/self/fd/1; head -c 1 /dev/urandom | wc -c",
            group.display()
        );
        let output = std::process::Command::new("/bin/busybox").args(["sh", "-c", &script]).output();
        let removed = super::super::remove_tree(&group, std::time::Instant::now() + std::time::Duration::from_secs(5));
        umount2(root.path(), MntFlags::MNT_DETACH).unwrap();
        restricted.unwrap();
        removed.unwrap();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"null"), "{output:?}");
        assert_eq!(text.matches("Operation not permitted").count(), 2, "{output:?}");
        assert_eq!(lines.last().map(|line| line.trim()), Some("1"), "{output:?}");
    }
}
