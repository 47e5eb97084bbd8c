variable "name" {
  description = "What the names of roles, queues and the direct function begin with."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\"; use 3 to 32 small letters, digits and hyphens, beginning with a letter, such as frazil."
  }
}

variable "partition" {
  description = "The AWS partition: aws, or aws-us-gov. Lithops invokes functions below amazonaws.com alone."
  type        = string
  default     = "aws"
  nullable    = false

  validation {
    condition     = contains(["aws", "aws-us-gov"], var.partition)
    error_message = "partition is \"${var.partition}\"; use aws or aws-us-gov: Lithops calls functions below amazonaws.com and nowhere else."
  }
}

variable "account_id" {
  description = "The account, in twelve digits; `aws sts get-caller-identity` says it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id is \"${var.account_id}\"; it has twelve digits, in quotes so that no leading zero is lost."
  }
}

variable "region" {
  description = "The region of the functions and of both buckets."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+){1,3}-[0-9]{1,2}$", var.region))
    error_message = "region is \"${var.region}\"; use the name of a region, such as eu-central-1, without the letter of a zone."
  }

  validation {
    condition     = (var.partition == "aws-us-gov") == startswith(var.region, "us-gov-")
    error_message = "region is \"${var.region}\" and partition is \"${var.partition}\"; regions us-gov-* are those of aws-us-gov."
  }
}

variable "data_bucket" {
  description = "The bucket that holds repositories, and their run directories beside them."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.data_bucket))
    error_message = "data_bucket is \"${var.data_bucket}\"; use the name alone, of 3 to 63 small letters, digits and hyphens: a dot in it breaks TLS."
  }
}

variable "staging_bucket" {
  description = "The bucket that Lithops passes calls and results through."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.staging_bucket))
    error_message = "staging_bucket is \"${var.staging_bucket}\"; use the name alone, of 3 to 63 small letters, digits and hyphens: a dot in it breaks TLS."
  }

  validation {
    condition     = var.staging_bucket != var.data_bucket
    error_message = "staging_bucket and data_bucket are both \"${var.staging_bucket}\"; results of calls expire, and data must not. Use two buckets."
  }
}

variable "repositories" {
  description = "Prefixes of the repositories in the data bucket, such as [\"archive\"]. The runs of each live below `<prefix>.frazil/`."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.repositories) > 0
    error_message = "repositories is empty; name the prefix of at least one repository, such as [\"archive\"]."
  }

  validation {
    condition     = alltrue([for one in var.repositories : can(regex("^[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*$", one))])
    error_message = "Each of repositories is a prefix such as \"archive\" or \"climate/era5\", of letters, digits and _.=- : no slash at an end, no two together, no wildcard. Given: ${jsonencode(var.repositories)}."
  }

  validation {
    condition     = length(var.repositories) == length(distinct(var.repositories))
    error_message = "repositories names one twice: ${jsonencode(var.repositories)}."
  }

  validation {
    condition = alltrue([
      for outer in var.repositories : alltrue([
        for inner in var.repositories : !startswith(inner, "${outer}/") && !startswith("${inner}/", "${outer}.frazil/")
      ])
    ])
    error_message = "A repository lies within another one, or among another one's runs: ${jsonencode(var.repositories)}. One would delete what the other keeps; use prefixes beside each other."
  }
}

variable "sources" {
  description = "What may be read and never written: bucket, and the prefix below which files lie (empty: all of the bucket)."
  type        = list(object({ bucket = string, prefix = string }))
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.sources : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", one.bucket))])
    error_message = "A bucket in sources is the name alone, without s3:// and without a prefix. Given: ${jsonencode(var.sources[*].bucket)}."
  }

  validation {
    condition     = alltrue([for one in var.sources : can(regex("^([A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*)?$", one.prefix))])
    error_message = "A prefix in sources is empty, or such as \"raw\" or \"raw/2024\": no slash at an end, no wildcard. Given: ${jsonencode(var.sources[*].prefix)}."
  }

  validation {
    condition     = alltrue([for one in var.sources : one.bucket != var.staging_bucket])
    error_message = "sources names the staging bucket \"${var.staging_bucket}\"; what lies there expires. Keep files somewhere else."
  }
}

variable "user_id" {
  description = "What `user_id` of Lithops' configuration says: its last four letters or digits (before any colon) are part of the functions' names. Any word will do, as long as clients and functions have the same."
  type        = string
  default     = "frazil"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]*[A-Za-z0-9]{4}(:[A-Za-z0-9_+=,.@-]*)?$", var.user_id))
    error_message = "user_id is \"${var.user_id}\"; its last four characters before any colon become part of functions' names: use at least four, and let those be letters or digits."
  }
}

variable "lithops_version" {
  description = "The version of Lithops that client and functions hold; a part of functions' names."
  type        = string
  default     = "3.8.0"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]+[.][0-9]+[.][0-9]+$", var.lithops_version))
    error_message = "lithops_version is \"${var.lithops_version}\"; use the full version that `pip show lithops` says, such as 3.8.0."
  }
}

variable "runtime" {
  description = "`runtime` of Lithops' configuration: the image's name and tag in the registry of the account."
  type        = string
  default     = "frazil:0.1.0"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]+([._-][a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.runtime))
    error_message = "runtime is \"${var.runtime}\"; use NAME:TAG, such as frazil:0.1.0, without the host of a registry."
  }

  validation {
    condition     = !endswith(var.runtime, ":latest")
    error_message = "runtime is \"${var.runtime}\"; functions keep the image that a tag meant when they were made. Use a version as the tag."
  }
}

variable "memory_sizes" {
  description = "Memory of the functions, in MB: one function for each. The first is the default of the configuration."
  type        = list(number)
  default     = [2048]
  nullable    = false

  validation {
    condition     = length(var.memory_sizes) > 0 && length(var.memory_sizes) == length(distinct(var.memory_sizes))
    error_message = "memory_sizes is ${jsonencode(var.memory_sizes)}; name at least one size in MB, and each once."
  }

  validation {
    condition     = alltrue([for one in var.memory_sizes : one >= 128 && one <= 10240 && floor(one) == one])
    error_message = "memory_sizes is ${jsonencode(var.memory_sizes)}; Lambda takes whole numbers of MB from 128 to 10240."
  }
}

variable "timeout" {
  description = "How long a function may run, in seconds."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.timeout >= 60 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "timeout is ${var.timeout}; use 60 to 900 seconds. Lambda allows no more, and less is eaten up by starting."
  }
}

variable "python_version" {
  description = "Python of the image, as major.minor; a client of another one is refused by Lithops."
  type        = string
  default     = "3.13"
  nullable    = false

  validation {
    condition     = can(regex("^3[.](1[2-9])$", var.python_version))
    error_message = "python_version is \"${var.python_version}\"; use the image's, from 3.12 on, as major.minor and in quotes."
  }
}

variable "github" {
  description = "The repository (owner/name) whose pull requests may plan, and the branch and the environment from which it may apply. `ids` are GitHub's numbers of the owner and of the repository, which its tokens name for repositories that were made, renamed or transferred since 15 July 2026. Null: no roles for CI."
  type        = object({ repository = string, branch = string, environment = string, ids = optional(object({ owner = number, repository = number })) })
  default     = null

  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "github.repository is a name such as \"owner/name\", without a host and without a wildcard: anybody can make repositories that a wildcard lets in."
  }

  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9._/-]+$", var.github.branch)) && !startswith(try(var.github.branch, ""), "refs/")
    error_message = "github.branch is the branch's name alone, such as \"main\": without refs/heads/ and without a wildcard."
  }

  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9._-]+$", var.github.environment))
    error_message = "github.environment is the name of an environment of the repository, such as \"production\", of letters, digits and ._- alone."
  }

  validation {
    condition     = alltrue([for one in values(try(var.github.ids, null) == null ? {} : var.github.ids) : one >= 1 && floor(one) == one])
    error_message = "github.ids are the whole numbers that GitHub has given the owner and the repository; `gh api repos/OWNER/NAME --jq '.owner.id, .id'` says them."
  }
}

variable "trusted_principals" {
  description = "ARNs of those who may assume the roles client, deployer and maintenance. By default the account itself, whose own policies then say who of it may."
  type        = map(list(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for role in keys(var.trusted_principals) : contains(["client", "deployer", "maintenance"], role)])
    error_message = "trusted_principals is a map from client, deployer or maintenance to lists of ARNs. Given: ${jsonencode(keys(var.trusted_principals))}."
  }

  validation {
    condition = alltrue(flatten([
      for role, arns in var.trusted_principals : [
        length(arns) > 0, [for arn in arns : can(regex("^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:[^*]+$", arn))]
      ]
    ]))
    error_message = "Each of trusted_principals is a list of full ARNs, such as [\"arn:aws:iam::111122223333:role/scientists\"], without a wildcard and not empty."
  }
}

variable "plans" {
  description = "The prefix in the data bucket that plans are put below for the direct function to run."
  type        = string
  default     = "plans"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*$", var.plans))
    error_message = "plans is \"${var.plans}\"; use a prefix such as \"plans\", of letters, digits and _.=- : no slash at an end, no wildcard."
  }

  validation {
    condition     = alltrue([for one in var.repositories : !startswith("${var.plans}/", "${one}/") && !startswith("${var.plans}/", "${one}.frazil/")])
    error_message = "plans is \"${var.plans}\", which lies in one of repositories or among its runs; use a prefix beside them."
  }
}
