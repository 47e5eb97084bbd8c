# What the policy module takes is checked there; its messages name these variables.
variable "name" {
  description = "What the names of roles, queues and the direct function begin with."
  type        = string
  default     = "frazil"
  nullable    = false
}

variable "partition" {
  description = "The AWS partition: aws, or aws-us-gov."
  type        = string
  default     = "aws"
  nullable    = false
}

variable "account_id" {
  description = "The account, in twelve digits. Say the same as `allowed_account_ids` of the provider."
  type        = string
  nullable    = false
}

variable "region" {
  description = "The region of the functions and of both buckets. Say the same as `region` of the provider."
  type        = string
  nullable    = false
}

variable "data_bucket" {
  description = "The name of the bucket to make for repositories and their runs."
  type        = string
  nullable    = false
}

variable "staging_bucket" {
  description = "The name of the bucket to make for what Lithops passes on: calls, results, metadata of the runtime."
  type        = string
  nullable    = false
}

variable "repositories" {
  description = "Prefixes of the repositories in the data bucket, such as [\"archive\"]."
  type        = list(string)
  nullable    = false
}

variable "sources" {
  description = "What may be read and never written: bucket, and the prefix below which files lie (empty: all of the bucket)."
  type        = list(object({ bucket = string, prefix = string }))
  default     = []
  nullable    = false
}

variable "plans" {
  description = "The prefix in the data bucket that plans are put below for the direct function to run."
  type        = string
  default     = "plans"
  nullable    = false
}

variable "user_id" {
  description = "What `user_id` of Lithops' configuration says; a part of functions' names."
  type        = string
  default     = "frazil"
  nullable    = false
}

variable "lithops_version" {
  description = "The version of Lithops that client and image hold."
  type        = string
  default     = "3.8.0"
  nullable    = false
}

variable "runtime" {
  description = "`runtime` of Lithops' configuration: the image's name and tag."
  type        = string
  default     = "frazil:0.1.0"
  nullable    = false
}

variable "memory_sizes" {
  description = "Memory of the functions, in MB: one function for each. The first is the default of the configuration."
  type        = list(number)
  default     = [2048]
  nullable    = false
}

variable "timeout" {
  description = "How long a function may run, in seconds."
  type        = number
  default     = 900
  nullable    = false
}

variable "python_version" {
  description = "Python of the image, as major.minor."
  type        = string
  default     = "3.13"
  nullable    = false
}

variable "github" {
  description = "The repository (owner/name) whose pull requests may plan, and the branch and the environment from which it may apply. `ids` are GitHub's numbers of the owner and of the repository, which its tokens name for repositories that were made, renamed or transferred since 15 July 2026. Null: no roles for CI."
  type        = object({ repository = string, branch = string, environment = string, ids = optional(object({ owner = number, repository = number })) })
  default     = null
}

variable "trusted_principals" {
  description = "ARNs of those who may assume the roles client, deployer and maintenance. By default the account itself, whose own policies then say who of it may."
  type        = map(list(string))
  default     = {}
  nullable    = false
}

# What follows is this module's own.
variable "image_digest" {
  description = "The image's digest in the registry of the account. Null: everything but the functions is made, so that there is somewhere to push the image to. The worker functions keep the image that `frazil runtime deploy` gives them later; the direct function follows this."
  type        = string
  default     = null

  validation {
    condition     = var.image_digest == null || can(regex("^sha256:[0-9a-f]{64}$", var.image_digest))
    error_message = "image_digest is \"${coalesce(var.image_digest, "null")}\"; use the digest that pushing the image printed, sha256: and 64 hexadecimal digits."
  }
}

variable "create_github_provider" {
  description = "Whether to make GitHub's OIDC provider; an account can have only one. False: it is there already."
  type        = bool
  default     = true
  nullable    = false
}

variable "architecture" {
  description = "The processor that the image is built for: x86_64 or arm64."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture is \"${var.architecture}\"; use x86_64 or arm64, as the image was built (docker build --platform)."
  }
}

variable "ephemeral_storage" {
  description = "Size of /tmp of the functions, in MB. Frazil streams from and to object storage; the readers of some formats fetch whole files there."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.ephemeral_storage >= 512 && var.ephemeral_storage <= 10240 && floor(var.ephemeral_storage) == var.ephemeral_storage
    error_message = "ephemeral_storage is ${var.ephemeral_storage}; Lambda takes whole numbers of MB from 512 to 10240."
  }
}

variable "reserved_concurrency" {
  description = "How many calls of each worker function may run at once, taken from the account's limit. -1: no limit but the account's. 0 stops all calls."
  type        = number
  default     = -1
  nullable    = false

  validation {
    condition     = var.reserved_concurrency >= -1 && floor(var.reserved_concurrency) == var.reserved_concurrency
    error_message = "reserved_concurrency is ${var.reserved_concurrency}; use a number of calls, 0 to stop them all, or -1 for no limit."
  }
}

variable "event_age" {
  description = "How long Lambda keeps a call that is throttled, in seconds; then it goes to the queue of calls that failed. Frazil calls again itself."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.event_age >= 60 && var.event_age <= 21600 && floor(var.event_age) == var.event_age
    error_message = "event_age is ${var.event_age}; Lambda takes 60 to 21600 seconds."
  }
}

variable "jobs_days" {
  description = "Days that calls and results of Lithops are kept in staging, and as many again once they are deleted or overwritten. A run does not live on them: receipts lie in its directory."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.jobs_days >= 1 && floor(var.jobs_days) == var.jobs_days
    error_message = "jobs_days is ${var.jobs_days}; use at least 1 day, in whole days."
  }
}

variable "runs_days" {
  description = "Days that the objects of run directories are kept. Longer than `frazil gc --abandon-after` (30 days), or runs are lost that could still be resumed."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.runs_days > 30 && floor(var.runs_days) == var.runs_days
    error_message = "runs_days is ${var.runs_days}; use more than 30 days: until then `frazil gc` takes a run for one that can be resumed."
  }
}

variable "deleted_days" {
  description = "Days that objects can be restored after they were deleted or overwritten in the data bucket. They cost storage meanwhile."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = var.deleted_days >= 1 && floor(var.deleted_days) == var.deleted_days
    error_message = "deleted_days is ${var.deleted_days}; use at least 1 day, in whole days."
  }
}

variable "log_days" {
  description = "Days that logs of functions are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_days)
    error_message = "log_days is ${var.log_days}; CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 or more particular numbers of days."
  }
}

variable "alarm_email" {
  description = "Who is told of alarms, by mail; AWS asks them to confirm. Null: alarms change their state and tell nobody."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@[:space:]]+@[^@[:space:]]+[.][^@[:space:]]+$", var.alarm_email))
    error_message = "alarm_email is \"${coalesce(var.alarm_email, "null")}\"; use one address, or null."
  }
}

variable "budget" {
  description = "Dollars that the whole account may cost in a month, and who is told by mail at 80 percent, and when more than all of it is foreseen. It tells; it does not stop anything. Null: none."
  type        = object({ dollars = number, email = string })
  default     = null

  validation {
    condition     = var.budget == null || try(var.budget.dollars > 0, false)
    error_message = "budget.dollars is ${try(var.budget.dollars, 0)}; use more than 0, or null for no budget."
  }

  validation {
    condition     = var.budget == null || can(regex("^[^@[:space:]]+@[^@[:space:]]+[.][^@[:space:]]+$", var.budget.email))
    error_message = "budget.email is \"${try(var.budget.email, "")}\"; use one address."
  }
}

variable "direct" {
  description = "The function for plain events, with a queue and a state machine that runs plans: its memory in MB, and how many tasks of a run it writes at once. Null: none."
  type        = object({ memory = number, tasks_at_once = optional(number, 40) })
  default     = null

  validation {
    condition     = var.direct == null || try(var.direct.memory >= 128 && var.direct.memory <= 10240 && floor(var.direct.memory) == var.direct.memory, false)
    error_message = "direct.memory is ${try(var.direct.memory, 0)}; Lambda takes whole numbers of MB from 128 to 10240."
  }

  validation {
    condition     = var.direct == null || try(var.direct.tasks_at_once >= 1 && var.direct.tasks_at_once <= 40, false)
    error_message = "direct.tasks_at_once is ${try(var.direct.tasks_at_once, 0)}; an inline Map of Step Functions runs 1 to 40 at once."
  }
}

variable "run_put_plans" {
  description = "Whether an object `<plans>/*.json` that is put into the data bucket is run as a plan. Needs `direct`."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.run_put_plans || var.direct != null
    error_message = "run_put_plans needs the function for plain events; set direct, such as { memory = 2048 }."
  }
}

variable "schedule" {
  description = "When to run a plan by the clock: an expression of EventBridge, such as cron(0 6 * * ? *), and the plan's key below `plans`. Each time is a run of its own. Needs `direct`. Null: never."
  type        = object({ expression = string, plan = string })
  default     = null

  validation {
    condition     = var.schedule == null || var.direct != null
    error_message = "schedule needs the function for plain events; set direct, such as { memory = 2048 }."
  }

  validation {
    condition     = var.schedule == null || can(regex("^(cron|rate)[(].+[)]$", var.schedule.expression))
    error_message = "schedule.expression is \"${try(var.schedule.expression, "")}\"; use cron(...) or rate(...), such as cron(0 6 * * ? *), in UTC."
  }

  validation {
    condition     = var.schedule == null || can(regex("^[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*[.]json$", var.schedule.plan))
    error_message = "schedule.plan is \"${try(var.schedule.plan, "")}\"; use the key of a plan below the prefix of plans, such as nightly.json."
  }
}

variable "tags" {
  description = "Tags of everything that takes tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
