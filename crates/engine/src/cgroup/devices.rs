//! cgroup v2 has no device controller: a small program that the kernel asks at each opening takes its place.
//!
//! The program is put together from the same rules as v1's `devices.allow` (`c 1:3 rwm`) and hung on the group
//! (kernel documentation, cgroup-v2, "Device controller").

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// One instruction of the kernel's virtual machine (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Source register in the upper half, destination in the lower.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `bpf(2)`: what is needed to load a program (the head of `union bpf_attr`).
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// `bpf(2)`: what is needed to hang a program on a group.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Further programs may be hung on the same group and on those below: all have to agree.
const BPF_F_ALLOW_MULTI: u32 = 2;

// Registers by what they hold.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

// Operations (`linux/bpf.h`).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const SET: u8 = 0xb7;
const JUMP_UNLESS: u8 = 0x55;
const JUMP_UNLESS_SAME: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Refuses the processes of a group every device that no rule allows. To be done once for a group.
///
/// # Errors
/// The kernel's; `PermissionDenied` without CAP_BPF or CAP_SYS_ADMIN. `InvalidInput` for what is no rule.
pub(super) fn restrict(group: &Path, rules: &[String]) -> io::Result<()> {
    let rules = rules.iter().map(|rule| Rule::parse(rule)).collect::<io::Result<Vec<_>>>()?;
    let program = assemble(&rules);
    let load = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the attributes point to `program` and a static text, which outlive the call; the kernel only reads them.
    let loaded = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    // SAFETY: the call has just made this descriptor; nobody else owns it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let group = File::open(group)?;
    let attach = Attach {
        target: group.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: both descriptors are open during the call; the attributes hold no pointer.
    unsafe { bpf(BPF_PROG_ATTACH, &attach) }.map(drop)
}

/// # Safety
/// `attributes` must be what `command` takes, and every pointer in it valid.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: pointer and length describe `attributes`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// One line of what is allowed; `None` stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    /// 1 for block devices, 2 for character devices.
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    /// 1 to make a node, 2 to read, 4 to write.
    access: i32,
}

impl Rule {
    fn parse(text: &str) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is no rule for devices"));
        let mut words = text.split_whitespace();
        let kind = match words.next() {
            Some("a") => None,
            Some("b") => Some(1),
            Some("c") => Some(2),
            _ => return Err(invalid()),
        };
        let (major, minor) = match words.next() {
            Some(numbers) => numbers.split_once(':').ok_or_else(invalid)?,
            None if kind.is_none() => ("*", "*"),
            None => return Err(invalid()),
        };
        let number = |text: &str| if text == "*" { Ok(None) } else { text.parse().map(Some).map_err(|_| invalid()) };
        let mut access = 0;
        for letter in words.next().unwrap_or("rwm").chars() {
            access |= match letter {
                'm' => 1,
                'r' => 2,
                'w' => 4,
                _ => return Err(invalid()),
            };
        }
        Ok(Self { kind, major: number(major)?, minor: number(minor)?, access })
    }

    /// Jumps over the rest of the rule wherever it does not fit, else answers "yes".
    fn assemble(self) -> Vec<Instruction> {
        let mut steps = Vec::new();
        for (register, wanted) in [(KIND, self.kind), (MAJOR, self.major), (MINOR, self.minor)] {
            if let Some(wanted) = wanted {
                steps.push(instruction(JUMP_UNLESS, register, 0, wanted));
            }
        }
        if self.access != 7 {
            steps.push(instruction(MOVE, SCRATCH, ACCESS, 0));
            steps.push(instruction(AND, SCRATCH, 0, self.access));
            steps.push(instruction(JUMP_UNLESS_SAME, SCRATCH, ACCESS, 0));
        }
        steps.extend(answer(true));
        let end = steps.len();
        for (at, step) in steps.iter_mut().enumerate() {
            if step.code == JUMP_UNLESS || step.code == JUMP_UNLESS_SAME {
                step.offset = (end - at - 1) as i16;
            }
        }
        steps
    }
}

/// The whole program. It is given `{ access << 16 | kind, major, minor }`, a word each.
fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let load = |register, at| Instruction { offset: at, ..instruction(LOAD_WORD, register, CONTEXT, 0) };
    let mut program = vec![
        load(ACCESS, 0),
        instruction(MOVE, KIND, ACCESS, 0),
        instruction(AND, KIND, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    program.extend(rules.iter().flat_map(|rule| rule.assemble()));
    program.extend(answer(false));
    program
}

fn instruction(code: u8, to: u8, from: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset: 0, immediate }
}

fn answer(yes: bool) -> [Instruction; 2] {
    [instruction(SET, ANSWER, 0, i32::from(yes)), instruction(EXIT, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 11];
        let mut at = 0;
        loop {
            let step = program[at];
            let (to, from) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            at += 1;
            match step.code {
                LOAD_WORD => registers[to] = context[step.offset as usize / 4],
                MOVE => registers[to] = registers[from],
                AND => registers[to] &= step.immediate as u32,
                SHIFT_RIGHT => registers[to] >>= step.immediate,
                SET => registers[to] = step.immediate as u32,
                JUMP_UNLESS if registers[to] != step.immediate as u32 => at += step.offset as usize,
                JUMP_UNLESS_SAME if registers[to] != registers[from] => at += step.offset as usize,
                JUMP_UNLESS | JUMP_UNLESS_SAME => {}
                EXIT => return registers[0] == 1,
                code => panic!("{code:#x} is not known"),
            }
        }
    }

    #[test]
    fn only_what_a_rule_allows_in_full_is_allowed() {
        let (block, character) = (1, 2);
        let (make, read, write) = (1, 2, 4);
        let rules = ["c *:* m", "b *:* m", "c 1:3 rwm", "c 136:* rw", "b 8:1 r"].map(|rule| Rule::parse(rule).unwrap());
        let program = assemble(&rules);
        for (kind, access, major, minor, allowed) in [
            (character, read | write, 1, 3, true),
            (character, make, 1, 11, true),
            (character, read, 1, 11, false),
            (character, make | read, 1, 11, false),
            (character, read | write, 136, 7, true),
            (character, read, 137, 7, false),
            (block, read, 8, 1, true),
            (block, read | write, 8, 1, false),
            (block, read, 8, 2, false),
            (block, read, 1, 3, false),
            (block, make, 8, 2, true),
        ] {
            assert_eq!(run(&program, kind, access, major, minor), allowed, "{kind} {access} {major}:{minor}");
        }
        assert!(!run(&assemble(&[]), character, read, 1, 3), "without a rule there is nothing");
        assert!(run(&assemble(&[Rule::parse("a").unwrap()]), block, read | write | make, 8, 0));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["", "x 1:3 r", "c", "c 1 r", "c 1:x r", "c 1:3 q"] {
            assert!(Rule::parse(text).is_err(), "{text:?}");
        }
    }
}
