# An account, a region, two buckets: everything that `frazil convert --backend aws_lambda` needs.
#
# State lies on this machine unless a backend is set; https://developer.hashicorp.com/terraform/language/backend says how.
terraform {
  required_version = ">= 1.9.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.25.0, < 7.0.0"
    }
  }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id] # credentials of another account are refused
}

module "frazil" {
  source = "../../modules/aws"

  account_id     = var.account_id
  region         = var.region
  data_bucket    = var.data_bucket
  staging_bucket = var.staging_bucket
  repositories   = var.repositories
  sources        = var.sources
  image_digest   = var.image_digest
  memory_sizes   = var.memory_sizes
  github         = var.github
  direct         = var.direct
  run_put_plans  = var.run_put_plans
  schedule       = var.schedule
  alarm_email    = var.alarm_email
  budget         = var.budget
  tags           = { project = "frazil" }
}
