# Every guard refuses what it is there for; its message is not compared, but that it is this variable's is.
variables {
  name           = "frazil"
  account_id     = "111122223333"
  region         = "eu-central-1"
  data_bucket    = "example-data"
  staging_bucket = "example-staging"
  repositories   = ["archive"]
}

run "name_1" {
  command = plan

  variables {
    name = "Frazil"
  }

  expect_failures = [var.name]
}

run "name_2" {
  command = plan

  variables {
    name = "f"
  }

  expect_failures = [var.name]
}

run "name_3" {
  command = plan

  variables {
    name = "frazil_"
  }

  expect_failures = [var.name]
}

run "partition_1" {
  command = plan

  variables {
    partition = "aws-cn"
  }

  expect_failures = [var.partition]
}

run "account_id_1" {
  command = plan

  variables {
    account_id = "1234"
  }

  expect_failures = [var.account_id]
}

run "account_id_2" {
  command = plan

  variables {
    account_id = "11112222333a"
  }

  expect_failures = [var.account_id]
}

run "region_1" {
  command = plan

  variables {
    region = "eu-central-1a"
  }

  expect_failures = [var.region]
}

run "region_2" {
  command = plan

  variables {
    region = "Frankfurt"
  }

  expect_failures = [var.region]
}

run "region_3" {
  command = plan

  variables {
    region = "us-gov-west-1"
  }

  expect_failures = [var.region]
}

run "data_bucket_1" {
  command = plan

  variables {
    data_bucket = "s3://example-data"
  }

  expect_failures = [var.data_bucket]
}

run "data_bucket_2" {
  command = plan

  variables {
    data_bucket = "example.data"
  }

  expect_failures = [var.data_bucket]
}

run "data_bucket_3" {
  command = plan

  variables {
    data_bucket = "Example"
  }

  expect_failures = [var.data_bucket]
}

run "data_bucket_4" {
  command = plan

  variables {
    data_bucket = "example-data/"
  }

  expect_failures = [var.data_bucket]
}

run "staging_bucket_1" {
  command = plan

  variables {
    staging_bucket = "example-data"
  }

  expect_failures = [var.staging_bucket]
}

run "staging_bucket_2" {
  command = plan

  variables {
    staging_bucket = "arn:aws:s3:::example"
  }

  expect_failures = [var.staging_bucket]
}

run "repositories_1" {
  command = plan

  variables {
    repositories = []
  }

  expect_failures = [var.repositories]
}

run "repositories_2" {
  command = plan

  variables {
    repositories = ["archive/"]
  }

  expect_failures = [var.repositories]
}

run "repositories_3" {
  command = plan

  variables {
    repositories = ["/archive"]
  }

  expect_failures = [var.repositories]
}

run "repositories_4" {
  command = plan

  variables {
    repositories = [""]
  }

  expect_failures = [var.repositories]
}

run "repositories_5" {
  command = plan

  variables {
    repositories = ["archive*"]
  }

  expect_failures = [var.repositories]
}

run "repositories_6" {
  command = plan

  variables {
    repositories = ["archive", "archive"]
  }

  expect_failures = [var.repositories]
}

run "repositories_7" {
  command = plan

  variables {
    repositories = ["archive", "archive/inner"]
  }

  expect_failures = [var.repositories]
}

run "repositories_8" {
  command = plan

  variables {
    repositories = ["archive", "archive.frazil/inner"]
  }

  expect_failures = [var.repositories]
}

run "sources_1" {
  command = plan

  variables {
    sources = [{ bucket = "s3://raw", prefix = "" }]
  }

  expect_failures = [var.sources]
}

run "sources_2" {
  command = plan

  variables {
    sources = [{ bucket = "example-raw", prefix = "raw/" }]
  }

  expect_failures = [var.sources]
}

run "sources_3" {
  command = plan

  variables {
    sources = [{ bucket = "example-raw", prefix = "*" }]
  }

  expect_failures = [var.sources]
}

run "sources_4" {
  command = plan

  variables {
    sources = [{ bucket = "example-staging", prefix = "" }]
  }

  expect_failures = [var.sources]
}

run "user_id_1" {
  command = plan

  variables {
    user_id = "me"
  }

  expect_failures = [var.user_id]
}

run "user_id_2" {
  command = plan

  variables {
    user_id = "with space"
  }

  expect_failures = [var.user_id]
}

run "user_id_3" {
  command = plan

  variables {
    user_id = "ends-in-a-"
  }

  expect_failures = [var.user_id]
}

run "lithops_version_1" {
  command = plan

  variables {
    lithops_version = "3.8"
  }

  expect_failures = [var.lithops_version]
}

run "lithops_version_2" {
  command = plan

  variables {
    lithops_version = "latest"
  }

  expect_failures = [var.lithops_version]
}

run "runtime_1" {
  command = plan

  variables {
    runtime = "frazil"
  }

  expect_failures = [var.runtime]
}

run "runtime_2" {
  command = plan

  variables {
    runtime = "frazil:latest"
  }

  expect_failures = [var.runtime]
}

run "runtime_3" {
  command = plan

  variables {
    runtime = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/frazil:1"
  }

  expect_failures = [var.runtime]
}

run "memory_sizes_1" {
  command = plan

  variables {
    memory_sizes = []
  }

  expect_failures = [var.memory_sizes]
}

run "memory_sizes_2" {
  command = plan

  variables {
    memory_sizes = [127]
  }

  expect_failures = [var.memory_sizes]
}

run "memory_sizes_3" {
  command = plan

  variables {
    memory_sizes = [10241]
  }

  expect_failures = [var.memory_sizes]
}

run "memory_sizes_4" {
  command = plan

  variables {
    memory_sizes = [512.5]
  }

  expect_failures = [var.memory_sizes]
}

run "memory_sizes_5" {
  command = plan

  variables {
    memory_sizes = [512, 512]
  }

  expect_failures = [var.memory_sizes]
}

run "timeout_1" {
  command = plan

  variables {
    timeout = 901
  }

  expect_failures = [var.timeout]
}

run "timeout_2" {
  command = plan

  variables {
    timeout = 59
  }

  expect_failures = [var.timeout]
}

run "timeout_3" {
  command = plan

  variables {
    timeout = 60.5
  }

  expect_failures = [var.timeout]
}

run "python_version_1" {
  command = plan

  variables {
    python_version = "3.9"
  }

  expect_failures = [var.python_version]
}

run "python_version_2" {
  command = plan

  variables {
    python_version = "3.13.1"
  }

  expect_failures = [var.python_version]
}

run "github_1" {
  command = plan

  variables {
    github = { repository = "owner/*", branch = "main", environment = "production" }
  }

  expect_failures = [var.github]
}

run "github_2" {
  command = plan

  variables {
    github = { repository = "https://github.com/owner/name", branch = "main", environment = "production" }
  }

  expect_failures = [var.github]
}

run "github_3" {
  command = plan

  variables {
    github = { repository = "owner/name", branch = "refs/heads/main", environment = "production" }
  }

  expect_failures = [var.github]
}

run "github_4" {
  command = plan

  variables {
    github = { repository = "owner/name", branch = "*", environment = "production" }
  }

  expect_failures = [var.github]
}

run "github_5" {
  command = plan

  variables {
    github = { repository = "owner/name", branch = "main", environment = "" }
  }

  expect_failures = [var.github]
}

run "github_6" {
  command = plan

  variables {
    github = { repository = "owner/name", branch = "main", environment = "production", ids = { owner = 0, repository = 456789 } }
  }

  expect_failures = [var.github]
}

run "github_7" {
  command = plan

  variables {
    github = { repository = "owner/name", branch = "main", environment = "production", ids = { owner = 123456, repository = 4567.5 } }
  }

  expect_failures = [var.github]
}

run "trusted_principals_1" {
  command = plan

  variables {
    trusted_principals = { worker = ["arn:aws:iam::111122223333:root"] }
  }

  expect_failures = [var.trusted_principals]
}

run "trusted_principals_2" {
  command = plan

  variables {
    trusted_principals = { client = ["*"] }
  }

  expect_failures = [var.trusted_principals]
}

run "trusted_principals_3" {
  command = plan

  variables {
    trusted_principals = { client = [] }
  }

  expect_failures = [var.trusted_principals]
}

run "trusted_principals_4" {
  command = plan

  variables {
    trusted_principals = { client = ["arn:aws:iam::111122223333:role/*"] }
  }

  expect_failures = [var.trusted_principals]
}

run "plans_1" {
  command = plan

  variables {
    plans = "plans/"
  }

  expect_failures = [var.plans]
}

run "plans_2" {
  command = plan

  variables {
    plans = "*"
  }

  expect_failures = [var.plans]
}

run "plans_3" {
  command = plan

  variables {
    plans = "archive/plans"
  }

  expect_failures = [var.plans]
}

run "plans_4" {
  command = plan

  variables {
    plans = "archive.frazil"
  }

  expect_failures = [var.plans]
}
