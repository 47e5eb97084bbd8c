# As the module has them; ../../modules/aws/variables.tf says more, and has others.
variable "account_id" {
  description = "The account, in twelve digits."
  type        = string
}

variable "region" {
  description = "The region of functions and buckets."
  type        = string
}

variable "data_bucket" {
  description = "The bucket to make for repositories."
  type        = string
}

variable "staging_bucket" {
  description = "The bucket to make for what Lithops passes on."
  type        = string
}

variable "repositories" {
  description = "Prefixes of repositories in the data bucket."
  type        = list(string)
}

variable "sources" {
  description = "Buckets and prefixes that may be read."
  type        = list(object({ bucket = string, prefix = string }))
  default     = []
}

variable "image_digest" {
  description = "The image's digest; null until it has been pushed."
  type        = string
  default     = null
}

variable "memory_sizes" {
  description = "Memory of the functions, in MB."
  type        = list(number)
  default     = [2048]
}

variable "github" {
  description = "The repository whose pull requests plan, and the branch and environment from which it applies."
  type        = object({ repository = string, branch = string, environment = string, ids = optional(object({ owner = number, repository = number })) })
  default     = null
}

variable "direct" {
  description = "The function for plain events."
  type        = object({ memory = number, tasks_at_once = optional(number, 40) })
  default     = null
}

variable "run_put_plans" {
  description = "Whether plans that are put into the data bucket are run."
  type        = bool
  default     = false
}

variable "schedule" {
  description = "When to run a plan by the clock."
  type        = object({ expression = string, plan = string })
  default     = null
}

variable "alarm_email" {
  description = "Who is told of alarms."
  type        = string
  default     = null
}

variable "budget" {
  description = "Dollars a month for the whole account, and who is told."
  type        = object({ dollars = number, email = string })
  default     = null
}
