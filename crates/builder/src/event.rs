//! What a build tells while it works.

/// One thing that happened. Stages work in parallel: what belongs to different stages comes interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The work is planned: the stages that are needed, in the order of the Dockerfile.
    Planned {
        /// `(stage, name or number, steps)`.
        stages: Vec<(usize, String, usize)>,
        /// All steps together.
        steps: usize,
    },
    /// A remark for the user.
    Warning(String),
    /// An image is fetched.
    Pulling {
        /// The stage that wants it.
        stage: usize,
        /// A line for a person.
        line: String,
    },
    /// A step begins.
    Step {
        /// Its stage, from 0; global `ARG`s belong to the first that is needed.
        stage: usize,
        /// Its number among all steps, from 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// The instruction.
        text: String,
    },
    /// A base image brings triggers, whose steps follow.
    Triggers {
        /// The stage.
        stage: usize,
        /// How many.
        count: usize,
    },
    /// The step is taken from the cache.
    Cached {
        /// The stage.
        stage: usize,
    },
    /// A container (or, for metadata, what Docker would use one for) does the step.
    Running {
        /// The stage.
        stage: usize,
        /// The container's id, 12 digits.
        container: String,
    },
    /// Output of the step's program, as it comes.
    Output {
        /// The stage.
        stage: usize,
        /// It came on stderr.
        error: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The container is gone.
    Removed {
        /// The stage.
        stage: usize,
        /// Its id.
        container: String,
    },
    /// The step is done.
    Done {
        /// The stage.
        stage: usize,
        /// The id of the image as it is after this step, `sha256:…`; `None` for a global `ARG` and an empty stage.
        image: Option<String>,
    },
    /// The step that is under way has failed; [`Builder::build`](crate::Builder::build) says how.
    Failed {
        /// The stage.
        stage: usize,
    },
    /// The stage is done.
    StageDone {
        /// The stage.
        stage: usize,
    },
    /// The build is done.
    Built {
        /// The image's id, `sha256:…`.
        image: String,
    },
    /// The image has a name.
    Tagged {
        /// As Docker shows it.
        name: String,
    },
}

impl Event {
    /// The stage it belongs to.
    pub fn stage(&self) -> Option<usize> {
        match self {
            Self::Pulling { stage, .. }
            | Self::Step { stage, .. }
            | Self::Triggers { stage, .. }
            | Self::Cached { stage }
            | Self::Running { stage, .. }
            | Self::Output { stage, .. }
            | Self::Removed { stage, .. }
            | Self::Done { stage, .. }
            | Self::Failed { stage }
            | Self::StageDone { stage } => Some(*stage),
            Self::Planned { .. } | Self::Warning(_) | Self::Built { .. } | Self::Tagged { .. } => None,
        }
    }
}

/// Where events go. Called from several threads, in order for each stage; must not block for long.
pub type Progress = std::sync::Arc<dyn Fn(Event) + Send + Sync>;
