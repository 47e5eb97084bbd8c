output "lithops_config" {
  description = "Lithops' configuration: terraform output -raw lithops_config > lithops.yaml"
  value       = module.frazil.lithops_config
}

output "repositories" {
  description = "URLs of the repositories."
  value       = module.frazil.repositories
}

output "image" {
  description = "Where to push the image."
  value       = module.frazil.image
}

output "role_arns" {
  description = "role -> its ARN."
  value       = module.frazil.role_arns
}
